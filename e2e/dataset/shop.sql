SET jit = off;
SELECT setseed(0.42);
CREATE SCHEMA shop;
CREATE TYPE shop.status AS ENUM ('new', 'paid', 'sent', 'returned');

CREATE TABLE shop.customers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    email text NOT NULL,
    born date,
    profile jsonb NOT NULL,
    created timestamptz NOT NULL
);
INSERT INTO shop.customers (name, email, born, profile, created)
SELECT 'Customer ' || i, 'customer' || i || '@example.org', date '1940-01-01' + (i * 7919) % 25000,
       jsonb_build_object('newsletter', i % 3 = 0, 'tags', jsonb_build_array('t' || i % 17, 't' || i % 23), 'note', md5(i::text)),
       timestamptz '2024-01-01 00:00:00+00' + make_interval(mins => i)
FROM generate_series(1, :customers) i;
CREATE UNIQUE INDEX customers_email ON shop.customers (lower(email));
CREATE INDEX customers_profile ON shop.customers USING gin (profile);

CREATE TABLE shop.orders (
    id bigint NOT NULL,
    customer bigint NOT NULL REFERENCES shop.customers,
    placed timestamptz NOT NULL,
    status shop.status NOT NULL,
    total numeric(12, 2) NOT NULL,
    token uuid NOT NULL,
    PRIMARY KEY (id, placed)
) PARTITION BY RANGE (placed);
CREATE TABLE shop.orders_2024 PARTITION OF shop.orders FOR VALUES FROM ('2024-01-01 00:00:00+00') TO ('2025-01-01 00:00:00+00');
CREATE TABLE shop.orders_2025 PARTITION OF shop.orders FOR VALUES FROM ('2025-01-01 00:00:00+00') TO ('2026-01-01 00:00:00+00');
CREATE TABLE shop.orders_rest PARTITION OF shop.orders DEFAULT;
CREATE SEQUENCE shop.order_ids OWNED BY shop.orders.id;
INSERT INTO shop.orders
SELECT nextval('shop.order_ids'), 1 + (i * 7907::bigint) % :customers, timestamptz '2024-01-01 00:00:00+00' + make_interval(mins => (i * 17) % 1500000),
       (enum_range(NULL::shop.status))[1 + i % 4], (i % 100000) / 100.0, md5('order' || i)::uuid
FROM generate_series(1, :orders) i;
CREATE INDEX orders_customer ON shop.orders (customer);

CREATE TABLE shop.lines (
    order_id bigint NOT NULL,
    placed timestamptz NOT NULL,
    line int NOT NULL,
    article text NOT NULL,
    quantity int NOT NULL CHECK (quantity > 0),
    price numeric(10, 2) NOT NULL,
    net numeric GENERATED ALWAYS AS (quantity * price) STORED
);
INSERT INTO shop.lines (order_id, placed, line, article, quantity, price)
SELECT o.id, o.placed, l, 'article-' || (o.id * l) % 5000 || ' ' || substr(md5((o.id * 31 + l)::text), 1, 12), 1 + (o.id + l) % 9, ((o.id * l) % 20000) / 100.0
FROM shop.orders o, generate_series(1, greatest(1, :perorder)) l
ORDER BY o.id, l;
ALTER TABLE shop.lines ADD FOREIGN KEY (order_id, placed) REFERENCES shop.orders;
CREATE INDEX lines_order ON shop.lines (order_id);
CREATE INDEX lines_article ON shop.lines (article);

CREATE TABLE shop.events (
    at timestamptz NOT NULL,
    kind text NOT NULL,
    payload json NOT NULL
);
INSERT INTO shop.events
SELECT timestamptz '2025-06-01 00:00:00+00' + make_interval(secs => i), 'kind-' || i % 11,
       json_build_object('user', i % :customers, 'path', '/shop/' || md5((i % 4000)::text), 'agent', 'Mozilla/5.0 (X11; Linux x86_64) part ' || i % 300, 'ms', i % 977)
FROM generate_series(1, :events) i;
CREATE INDEX events_at ON shop.events USING brin (at);

CREATE TABLE shop.files (id int PRIMARY KEY, name text NOT NULL, body bytea NOT NULL);
ALTER TABLE shop.files ALTER COLUMN body SET STORAGE EXTERNAL;
INSERT INTO shop.files
SELECT i, 'file ' || i, (SELECT string_agg(sha256((i || '/' || k)::bytea), ''::bytea ORDER BY k) FROM generate_series(1, 2500) k)
FROM generate_series(1, :files) i;

CREATE VIEW shop.revenue AS SELECT date_trunc('month', placed) AS month, sum(total) AS total FROM shop.orders GROUP BY 1;
CREATE MATERIALIZED VIEW shop.best AS SELECT article, sum(quantity) AS sold FROM shop.lines GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 100;
CREATE FUNCTION shop.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.created := now(); RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE UPDATE OF name ON shop.customers FOR EACH ROW EXECUTE FUNCTION shop.touch();
SELECT lo_from_bytea(900001, (SELECT string_agg(sha256(k::text::bytea), ''::bytea ORDER BY k) FROM generate_series(1, 100000) k));
ANALYZE;
