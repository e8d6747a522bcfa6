-- The type "char" above 0x7f in UTF-8, whose text on 13 and 14 is a byte that is no character.
-- @reworded t
-- @reworded parted_1
-- @reworded parted_2

CREATE TABLE t (id int PRIMARY KEY, c "char"); INSERT INTO t SELECT i, (i - CASE WHEN i > 127 THEN 256 ELSE 0 END)::"char" FROM generate_series(0, 255) i; CREATE INDEX ON t (c);

CREATE DOMAIN d AS "char"; CREATE TABLE parted (k int, c d, v text) PARTITION BY LIST (k); CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1); CREATE TABLE parted_2 PARTITION OF parted FOR VALUES IN (2); INSERT INTO parted SELECT 1 + id % 2, c, 'v' FROM t;

-- @setup 15+
CREATE TABLE arrays (a "char"[]); INSERT INTO arrays SELECT ARRAY[c, 'x'] FROM t;


-- @check every value
SELECT count(*), count(DISTINCT c), sum(c::int), (SELECT sum(c::"char"::int) FROM parted) FROM t
-- @gives
-- 256 | 256 | -128 | -128

-- @check 15+ in arrays
SELECT sum(a[1]::int) FROM arrays
-- @gives
-- -128
