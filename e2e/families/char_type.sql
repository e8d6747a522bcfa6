-- The type "char" above 0x7f, in a database of one byte a character.
-- @database ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'
-- @reworded t

SET client_encoding = 'LATIN1'; CREATE TABLE t (id int PRIMARY KEY, c "char"); INSERT INTO t SELECT i, (i - CASE WHEN i > 127 THEN 256 ELSE 0 END)::"char" FROM generate_series(0, 255) i;

-- @check every value
SELECT count(*), count(DISTINCT c), sum(c::int) FROM t
-- @gives
-- 256 | 256 | -128
