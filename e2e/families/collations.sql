-- Collations: ICU, nondeterministic, of libc, in columns, indexes, partitions and domains.

CREATE SCHEMA c; CREATE COLLATION c.numeric (PROVIDER = icu, LOCALE = 'en-u-kn-true'); CREATE COLLATION c.ci (PROVIDER = icu, LOCALE = 'und-u-ks-level2', DETERMINISTIC = false); CREATE COLLATION c."plain C" (PROVIDER = libc, LOCALE = 'C'); CREATE COLLATION c.copied FROM "C"; COMMENT ON COLLATION c.ci IS 'no case';

CREATE TABLE t (id int, n text COLLATE c.numeric, i text COLLATE c.ci, p text COLLATE c."plain C", CONSTRAINT u UNIQUE (i)); INSERT INTO t VALUES (1, 'a10', 'Straße', 'B'), (2, 'a9', 'b', 'a'), (3, 'a100', NULL, 'é'); CREATE INDEX ON t (n); CREATE INDEX ON t (p COLLATE c.numeric);
CREATE DOMAIN c.d AS text COLLATE c.ci; CREATE TABLE ranged (k text COLLATE c.numeric) PARTITION BY RANGE (k); CREATE TABLE ranged_1 PARTITION OF ranged FOR VALUES FROM ('a1') TO ('a50'); CREATE TABLE ranged_2 PARTITION OF ranged FOR VALUES FROM ('a50') TO ('a5000'); INSERT INTO ranged VALUES ('a9'), ('a10'), ('a100'), ('a600');
CREATE TABLE listed (k text COLLATE c.ci) PARTITION BY LIST (k); CREATE TABLE listed_1 PARTITION OF listed FOR VALUES IN ('ABC'); INSERT INTO listed VALUES ('abc'), ('aBc');

-- @check order
SELECT string_agg(n, ',' ORDER BY n), string_agg(p, ',' ORDER BY p) FROM t
-- @gives
-- a9,a10,a100 | B,a,é

-- @check equal without being the same
SELECT id FROM t WHERE i = 'B' OR i = 'straße' ORDER BY id
-- @gives
-- 1
-- 2

-- @check rows in their partitions
SELECT (SELECT count(*) FROM ranged_1), (SELECT count(*) FROM ranged_2), (SELECT count(*) FROM listed_1)
-- @gives
-- 2 | 2 | 2

-- @check the nondeterministic unique constraint
INSERT INTO t (i) VALUES ('B')
-- @fails 23505
