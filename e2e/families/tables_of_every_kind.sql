-- Tables without columns, with dropped columns, unlogged, temporary ones of others, with 1,000 columns, empty, and clustered.

CREATE TABLE no_columns (); INSERT INTO no_columns DEFAULT VALUES; INSERT INTO no_columns DEFAULT VALUES; CREATE TABLE all_dropped (a int, b text); INSERT INTO all_dropped VALUES (1, 'x'), (2, 'y'), (3, 'z'); ALTER TABLE all_dropped DROP COLUMN a, DROP COLUMN b; CREATE TABLE no_rows (n int);
CREATE TABLE dropped (a int, gone1 text, b int, gone2 bytea, c text DEFAULT 'c'); INSERT INTO dropped VALUES (1, 'x', 2, '\x00', 'y'); ALTER TABLE dropped DROP COLUMN gone1, DROP COLUMN gone2, ADD COLUMN late int DEFAULT 7, ADD COLUMN gone1 int; INSERT INTO dropped VALUES (3, 4, 'z', 8, 9);
CREATE UNLOGGED TABLE unl (n int PRIMARY KEY); INSERT INTO unl VALUES (5); CREATE TABLE fast_default (n int); INSERT INTO fast_default VALUES (1), (2); ALTER TABLE fast_default ADD COLUMN d timestamptz DEFAULT '2024-02-29 12:00+02', ADD COLUMN t text DEFAULT 'without a rewrite'; INSERT INTO fast_default VALUES (3, NULL, NULL);

DO $$ BEGIN EXECUTE (SELECT 'CREATE TABLE wide_row (' || string_agg('c' || i || ' int', ', ') || ')' FROM generate_series(1, 1200) i); EXECUTE 'INSERT INTO wide_row (c1, c600, c1200) VALUES (1, 600, 1200)'; END $$;

CREATE TABLE system_columns ("a.ctid" int, "tableOid" int); INSERT INTO system_columns VALUES (1, 2); CREATE TABLE many_rows AS SELECT i AS id, md5(i::text) AS m, repeat('x', i % 50) AS pad FROM generate_series(1, 20000) i; DELETE FROM many_rows WHERE id % 3 = 0; UPDATE many_rows SET pad = 'u' WHERE id % 7 = 0; CREATE TABLE t_like (LIKE many_rows INCLUDING ALL); INSERT INTO t_like SELECT * FROM many_rows LIMIT 3;

-- @session
CREATE TEMPORARY TABLE mine (n int); INSERT INTO mine VALUES (1); CREATE TEMPORARY SEQUENCE my_seq; CREATE TEMPORARY VIEW my_view AS SELECT * FROM mine;

-- @check rows
SELECT (SELECT count(*) FROM no_columns), (SELECT count(*) FROM all_dropped), (SELECT count(*) FROM no_rows), (SELECT string_agg(concat_ws(',', a, b, c, late, gone1), ';' ORDER BY a) FROM dropped), (SELECT n FROM unl), (SELECT c600 + c1200 FROM wide_row), (SELECT count(*) FROM many_rows), (SELECT relpersistence FROM pg_class WHERE relname = 'unl')
-- @gives
-- 2 | 3 | 0 | 1,2,y,7;3,4,z,8,9 | 5 | 1800 | 13334 | u

-- @check defaults given without a rewrite
SELECT n, d, t FROM fast_default ORDER BY n
-- @gives
-- 1 | 2024-02-29 10:00:00+00 | without a rewrite
-- 2 | 2024-02-29 10:00:00+00 | without a rewrite
-- 3 | NULL | NULL
