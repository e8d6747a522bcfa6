-- Domains, enums, ranges, composite types and arrays of all of them, in columns, defaults and indexes.

CREATE FUNCTION odd(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 % 2 = 1';

CREATE DOMAIN pos AS int DEFAULT 5 NOT NULL CHECK (VALUE > 0); CREATE DOMAIN odd_pos AS pos CONSTRAINT odd CHECK (public.odd(VALUE)); CREATE DOMAIN short AS varchar(5) COLLATE "C"; CREATE DOMAIN ints AS int[] CHECK (array_length(VALUE, 1) < 4); ALTER DOMAIN short ADD CONSTRAINT later CHECK (VALUE <> 'no') NOT VALID;
CREATE TYPE colour AS ENUM ('red', 'green', 'blue'); CREATE TYPE empty_enum AS ENUM ();

ALTER TYPE colour ADD VALUE 'first' BEFORE 'red';

ALTER TYPE colour ADD VALUE 'gre"en''s, {x}' AFTER 'green';

ALTER TYPE colour RENAME VALUE 'blue' TO 'azure';

CREATE TYPE point3 AS (x float8, y float8, z pos); CREATE TYPE nested AS (p point3, all_of point3[], c colour, t text COLLATE "C"); CREATE TYPE shell; ALTER TYPE nested ADD ATTRIBUTE gone int; ALTER TYPE nested DROP ATTRIBUTE gone; ALTER TYPE nested ADD ATTRIBUTE late odd_pos;
CREATE FUNCTION span(float8, float8) RETURNS float8 LANGUAGE sql IMMUTABLE STRICT AS 'SELECT $1 - $2'; CREATE TYPE frange AS RANGE (SUBTYPE = float8, SUBTYPE_DIFF = span); CREATE TYPE trange AS RANGE (SUBTYPE = text, COLLATION = "C");
CREATE TABLE t (id int PRIMARY KEY, a pos, b odd_pos, s short, i ints, c colour DEFAULT 'green', n nested, f frange, tr trange, r int4range, ca colour[], na nested[], fa frange[], m int[][], d date[] DEFAULT '{}');

INSERT INTO t VALUES (1, 1, 3, 'yes', '{1,2}', 'azure', ROW(ROW(1.5, 'NaN', 2), ARRAY[ROW(1, 2, 3)::point3], 'gre"en''s, {x}', 'a,"b"\', 7), '[0.1,0.30000000000000004)', '["a,b",)', 'empty', ARRAY['first', 'gre"en''s, {x}', NULL]::colour[], ARRAY[ROW(NULL, NULL, NULL, NULL, 1)::nested], '{"[1,2)",empty}', '[0:1][2:3]={{1,2},{3,4}}', '{infinity,-infinity,0044-03-15 BC}');

INSERT INTO t (id, b) VALUES (2, 5);

CREATE INDEX ON t USING gist (f); CREATE INDEX ON t USING gin (ca); CREATE INDEX ON t (c); CREATE INDEX ON t (((n).late)); CREATE TABLE comp_keys (p point3 PRIMARY KEY, c colour UNIQUE); INSERT INTO comp_keys VALUES (ROW(1, 2, 3), 'red');
COMMENT ON TYPE colour IS 'c'; COMMENT ON DOMAIN pos IS 'd'; COMMENT ON CONSTRAINT odd ON DOMAIN odd_pos IS 'odd'; COMMENT ON COLUMN nested.c IS 'attribute'; COMMENT ON TYPE frange IS 'r';

-- @check the order of an enum's values
SELECT array_to_string(enum_range(NULL::colour), ';'), 'first'::colour < 'red'
-- @gives
-- first;red;green;gre"en's, {x};azure | t

-- @check values inside values
SELECT (n).late, ((n).p).y, (n).all_of[1].z, m[1][3], f @> 0.3::float8, d[3] FROM t WHERE id = 1
-- @gives
-- 7 | NaN | 3 | 4 | t | 0044-03-15 BC

-- @check a domain on a domain with a function
INSERT INTO t (id, b) VALUES (3, 4)
-- @fails 23514

-- @check an index on ranges of our own
SET enable_seqscan = off; SELECT id FROM t WHERE f && '[0.2,0.25]'
-- @gives
-- 1
