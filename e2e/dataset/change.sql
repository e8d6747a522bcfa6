UPDATE shop.customers SET profile = profile || '{"changed": true}' WHERE id % 100 = 0;
DELETE FROM shop.events WHERE at < timestamptz '2025-06-01 00:00:00+00' + make_interval(secs => :events / 200);
INSERT INTO shop.events
SELECT timestamptz '2025-12-01 00:00:00+00' + make_interval(secs => i), 'new', json_build_object('user', i, 'path', md5(i::text))
FROM generate_series(1, :events / 100) i;
WITH o AS (
    INSERT INTO shop.orders
    SELECT nextval('shop.order_ids'), 1 + i % :customers, timestamptz '2026-06-01 00:00:00+00' + make_interval(secs => i), 'new', i % 1000, md5('new' || i)::uuid
    FROM generate_series(1, :orders / 100) i RETURNING id, placed)
INSERT INTO shop.lines (order_id, placed, line, article, quantity, price)
SELECT id, placed, 1, 'article-' || id % 5000, 1, 9.99 FROM o;
UPDATE shop.files SET name = name || ' renamed' WHERE id % 100 = 1;
REFRESH MATERIALIZED VIEW shop.best;
