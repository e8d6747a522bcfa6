-- Operators, casts, operator classes and families, aggregates and functions of our own, in indexes and constraints.
-- @globals
CREATE ROLE fam_op_owner;

-- @setup
CREATE SCHEMA ops;

CREATE FUNCTION ops.cmp(text, text) RETURNS int LANGUAGE sql IMMUTABLE STRICT AS 'SELECT CASE WHEN length($1) <> length($2) THEN length($1) - length($2) ELSE bttextcmp($1, $2) END'; CREATE FUNCTION ops.lt(text, text) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT ops.cmp($1, $2) < 0'; CREATE FUNCTION ops.le(text, text) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT ops.cmp($1, $2) <= 0'; CREATE FUNCTION ops.eq(text, text) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT ops.cmp($1, $2) = 0'; CREATE FUNCTION ops.ge(text, text) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT ops.cmp($1, $2) >= 0'; CREATE FUNCTION ops.gt(text, text) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT ops.cmp($1, $2) > 0';
CREATE OPERATOR ops.<# (LEFTARG = text, RIGHTARG = text, FUNCTION = ops.lt, COMMUTATOR = OPERATOR(ops.>#), NEGATOR = OPERATOR(ops.>=#), RESTRICT = scalarltsel, JOIN = scalarltjoinsel); CREATE OPERATOR ops.<=# (LEFTARG = text, RIGHTARG = text, FUNCTION = ops.le); CREATE OPERATOR ops.=# (LEFTARG = text, RIGHTARG = text, FUNCTION = ops.eq, COMMUTATOR = OPERATOR(ops.=#)); CREATE OPERATOR ops.>=# (LEFTARG = text, RIGHTARG = text, FUNCTION = ops.ge); CREATE OPERATOR ops.># (LEFTARG = text, RIGHTARG = text, FUNCTION = ops.gt); CREATE OPERATOR ops.!! (RIGHTARG = int, FUNCTION = int4um);
CREATE OPERATOR FAMILY ops.by_length USING btree; CREATE OPERATOR CLASS ops.by_length_ops FOR TYPE text USING btree FAMILY ops.by_length AS OPERATOR 1 ops.<#, OPERATOR 2 ops.<=#, OPERATOR 3 ops.=#, OPERATOR 4 ops.>=#, OPERATOR 5 ops.>#, FUNCTION 1 ops.cmp(text, text); ALTER OPERATOR FAMILY ops.by_length USING btree OWNER TO fam_op_owner; CREATE OPERATOR FAMILY ops.loose USING hash;
CREATE TYPE ops.euro AS (cents bigint); CREATE FUNCTION ops.to_euro(numeric) RETURNS ops.euro LANGUAGE sql IMMUTABLE AS 'SELECT ROW(($1 * 100)::bigint)::ops.euro'; CREATE CAST (numeric AS ops.euro) WITH FUNCTION ops.to_euro(numeric) AS ASSIGNMENT; CREATE CAST (ops.euro AS text) WITH INOUT; COMMENT ON CAST (numeric AS ops.euro) IS 'cast';
CREATE FUNCTION ops.step(bigint, int) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2 + $2'; CREATE AGGREGATE ops.twice (int) (SFUNC = ops.step, STYPE = bigint, INITCOND = '1', COMBINEFUNC = int8pl, PARALLEL = SAFE); CREATE AGGREGATE ops.pct (float8 ORDER BY anyelement) (SFUNC = ordered_set_transition, STYPE = internal, FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA); ALTER AGGREGATE ops.twice(int) OWNER TO fam_op_owner; ALTER OPERATOR ops.=# (text, text) OWNER TO fam_op_owner;
CREATE FUNCTION ops.variadic(VARIADIC a int[] DEFAULT '{1}') RETURNS int LANGUAGE sql AS 'SELECT count(*)::int FROM unnest(a)'; CREATE FUNCTION ops.out(IN a int, OUT b int, INOUT c text DEFAULT 'x;y') LANGUAGE sql AS $a$ SELECT $1, $2 $a$; CREATE FUNCTION ops.tab(n int) RETURNS TABLE (x int, "y z" text) LANGUAGE plpgsql COST 7 ROWS 3 SECURITY DEFINER SET search_path = pg_catalog, "a b" SET work_mem = '5MB' AS 'BEGIN RETURN QUERY SELECT n, NULL::text; END'; ALTER FUNCTION ops.tab(int) OWNER TO fam_op_owner;

CREATE TABLE ops.t (id int PRIMARY KEY, s text, e ops.euro, EXCLUDE USING btree (s ops.by_length_ops WITH OPERATOR(ops.=#))); INSERT INTO ops.t VALUES (1, 'ccc', 1.25), (2, 'aa', 2.0), (3, 'b', NULL); CREATE INDEX by_len ON ops.t USING btree (s ops.by_length_ops DESC NULLS FIRST, id) INCLUDE (e) WHERE id > 0; CREATE INDEX expr ON ops.t ((s || 'x'), lower(s) text_pattern_ops);

-- @check the index of our class orders by length
SET enable_seqscan = off; SELECT string_agg(s, ',') FROM (SELECT s FROM ops.t WHERE id > 0 ORDER BY s USING OPERATOR(ops.>#)) x
-- @gives
-- ccc,aa,b

-- @check casts, aggregates, defaults
SELECT (SELECT e::text FROM ops.t WHERE id = 1), (SELECT ops.twice(id ORDER BY id) FROM ops.t), ops.variadic(), (ops.out(3)).c, (SELECT proconfig::text FROM pg_proc WHERE proname = 'tab')

-- @check the exclusion constraint
INSERT INTO ops.t VALUES (4, 'b', NULL)
-- @fails 23P01
