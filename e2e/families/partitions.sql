-- Partition trees: range, list, hash, several levels, another column order, detached, indexes attached.

CREATE TABLE r (k int NOT NULL, v text, PRIMARY KEY (k)) PARTITION BY RANGE (k);
CREATE TABLE r1 PARTITION OF r FOR VALUES FROM (MINVALUE) TO (100);
CREATE TABLE r2 (gone text, v text, k int NOT NULL); ALTER TABLE r2 DROP COLUMN gone; ALTER TABLE r ATTACH PARTITION r2 FOR VALUES FROM (100) TO (200);
CREATE TABLE r_rest PARTITION OF r DEFAULT;
INSERT INTO r SELECT g, 'r' || g FROM generate_series(-50, 350, 10) g;
CREATE TABLE refers (k int REFERENCES r); INSERT INTO refers VALUES (100), (350);

CREATE TABLE l (region text, day date, n int) PARTITION BY LIST (region);
CREATE TABLE l_eu PARTITION OF l FOR VALUES IN ('eu', NULL) PARTITION BY RANGE (day);
CREATE TABLE l_eu_25 PARTITION OF l_eu FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') PARTITION BY HASH (n);
CREATE TABLE l_eu_25_0 PARTITION OF l_eu_25 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE l_eu_25_1 PARTITION OF l_eu_25 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE l_us PARTITION OF l FOR VALUES IN ('us');
INSERT INTO l SELECT (ARRAY['eu', 'us', NULL])[1 + g % 3], '2025-02-01'::date + g, g FROM generate_series(1, 90) g;

CREATE TABLE h (t text, n numeric) PARTITION BY HASH (t, n);
CREATE TABLE h0 PARTITION OF h FOR VALUES WITH (MODULUS 3, REMAINDER 0); CREATE TABLE h1 PARTITION OF h FOR VALUES WITH (MODULUS 3, REMAINDER 1); CREATE TABLE h2 PARTITION OF h FOR VALUES WITH (MODULUS 3, REMAINDER 2);
INSERT INTO h SELECT 't' || g, g / 3.0 FROM generate_series(1, 60) g;

CREATE TABLE d (k int) PARTITION BY LIST (k); CREATE TABLE d1 PARTITION OF d FOR VALUES IN (1); CREATE TABLE d2 PARTITION OF d FOR VALUES IN (2);
INSERT INTO d VALUES (1), (2); ALTER TABLE d DETACH PARTITION d2; INSERT INTO d2 VALUES (77);
CREATE TABLE no_partitions (k int) PARTITION BY RANGE (k);

CREATE INDEX r_v ON ONLY r (v); CREATE INDEX r1_v ON r1 (v); ALTER INDEX r_v ATTACH PARTITION r1_v;
CREATE INDEX ON l (day, n); CREATE UNIQUE INDEX ON h (n, t);

CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER each BEFORE INSERT ON l FOR EACH ROW EXECUTE FUNCTION note();
ALTER TABLE l_us DISABLE TRIGGER each;

CREATE TYPE colour AS ENUM ('red', 'green', 'blue');
CREATE TABLE he (c colour, n int) PARTITION BY HASH (c);
CREATE TABLE he0 PARTITION OF he FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE he1 PARTITION OF he FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO he SELECT c, n FROM unnest(enum_range(NULL::colour)) c, generate_series(1, 7) n;

-- An enum hashes by its OIDs: its rows may lawfully be in the other partition.
-- @differs he0 rows may be in the other partition
-- @differs he1 rows may be in the other partition

-- @check all rows are below their roots
SELECT (SELECT count(*) FROM r), (SELECT count(*) FROM ONLY r2), (SELECT count(*) FROM l), (SELECT count(*) FROM l_eu), (SELECT count(*) FROM h), (SELECT count(*) FROM d), (SELECT sum(k) FROM d2)
-- @gives
-- 41 | 10 | 90 | 60 | 60 | 1 | 79

-- @check the enum's rows as a whole
SELECT count(*), md5(string_agg(c || ' ' || n, ',' ORDER BY c, n)) FROM he

-- @check indexes are as valid as they were: one partition of r lacks its part
SELECT indexrelid::regclass::text, indisvalid, indisready FROM pg_index WHERE indrelid::regclass::text !~ '^pg_' AND indexrelid::regclass::text IN ('r_v', 'r1_v', 'r_pkey', 'l_day_n_idx', 'h_n_t_idx', 'l_eu_25_0_day_n_idx') ORDER BY 1
-- @gives
-- h_n_t_idx | t | t
-- l_day_n_idx | t | t
-- l_eu_25_0_day_n_idx | t | t
-- r1_v | t | t
-- r_pkey | t | t
-- r_v | f | t

-- @check which index is below which
SELECT inhrelid::regclass::text, inhparent::regclass::text FROM pg_inherits ORDER BY 1, 2

-- @check a partition found by its key
EXPLAIN (COSTS OFF) SELECT FROM l WHERE region = 'us' AND day = '2025-03-01'

-- @check the foreign key to a partitioned table
INSERT INTO refers VALUES (12345)
-- @fails 23503

-- @check the disabled trigger
SELECT tgrelid::regclass::text, tgenabled FROM pg_trigger WHERE tgname = 'each' ORDER BY 1
