-- Table and index access methods, conversions, transforms, base types and languages made in SQL.
-- @globals
CREATE ROLE fam_am_owner;

-- @setup
CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler; CREATE ACCESS METHOD brin2 TYPE INDEX HANDLER brinhandler; COMMENT ON ACCESS METHOD heap2 IS 'am';

CREATE TABLE t2 (id int PRIMARY KEY, v text) USING heap2; INSERT INTO t2 SELECT i, 'v' || i FROM generate_series(1, 50) i; CREATE MATERIALIZED VIEW m2 USING heap2 AS SELECT count(*) AS n FROM t2; CREATE TABLE plain (n int); INSERT INTO plain VALUES (1);
CREATE OPERATOR CLASS int_ops2 FOR TYPE int4 USING brin2 AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 brin_minmax_opcinfo(internal), FUNCTION 2 brin_minmax_add_value(internal, internal, internal, internal), FUNCTION 3 brin_minmax_consistent(internal, internal, internal), FUNCTION 4 brin_minmax_union(internal, internal, internal); CREATE INDEX i2 ON t2 USING brin2 (id int_ops2);
CREATE CONVERSION conv FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8; ALTER CONVERSION conv OWNER TO fam_am_owner; COMMENT ON CONVERSION conv IS 'conv'; CREATE TRANSFORM FOR int LANGUAGE sql (FROM SQL WITH FUNCTION prsd_lextype(internal), TO SQL WITH FUNCTION int4recv(internal)); CREATE FUNCTION handler() RETURNS language_handler LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler'; CREATE FUNCTION validator(oid) RETURNS void LANGUAGE c STRICT AS '$libdir/plpgsql', 'plpgsql_validator'; CREATE TRUSTED LANGUAGE plalias HANDLER handler VALIDATOR validator; ALTER LANGUAGE plalias OWNER TO fam_am_owner;
CREATE FUNCTION aliased() RETURNS int LANGUAGE plalias AS 'BEGIN RETURN 7; END';

CREATE TYPE id9; CREATE FUNCTION id9_in(cstring) RETURNS id9 LANGUAGE internal IMMUTABLE STRICT AS 'int8in'; CREATE FUNCTION id9_out(id9) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int8out'; CREATE TYPE id9 (INPUT = id9_in, OUTPUT = id9_out, LIKE = int8, CATEGORY = 'N', DEFAULT = '5', DELIMITER = ';'); CREATE CAST (id9 AS int8) WITHOUT FUNCTION AS IMPLICIT; CREATE TABLE ids (i id9, a id9[] DEFAULT '{1;2}'); INSERT INTO ids VALUES ('9223372036854775807', '{3;NULL}'); INSERT INTO ids DEFAULT VALUES;

-- @setup 17+
CREATE TABLE parted (k int) PARTITION BY LIST (k) USING heap2; CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1); INSERT INTO parted VALUES (1);

-- @check access methods
SELECT relname, amname FROM pg_class c JOIN pg_am a ON a.oid = relam WHERE relname IN ('t2', 'm2', 'plain', 'i2', 't2_pkey') ORDER BY 1
-- @gives
-- i2 | brin2
-- m2 | heap2
-- plain | heap
-- t2 | heap2
-- t2_pkey | btree

-- @check a type and a language of our own
SELECT i, a, i + 0::int8, aliased() FROM ids WHERE i::int8 > 5
-- @gives
-- 9223372036854775807 | {3;NULL} | 9223372036854775807 | 7
