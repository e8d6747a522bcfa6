-- A database of PostgreSQL's builtin locale provider.
-- @since 17
-- @database ENCODING 'UTF8' TEMPLATE template0 LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LC_COLLATE 'C' LC_CTYPE 'C'

CREATE COLLATION b (PROVIDER = builtin, LOCALE = 'C'); CREATE TABLE t (k text PRIMARY KEY, b text COLLATE b); INSERT INTO t VALUES ('É', 'x'), ('é', 'y'); CREATE INDEX ON t (lower(k));

-- @check lower case beyond ASCII
SELECT string_agg(lower(k), ',' ORDER BY k), (SELECT datlocprovider::text || datlocale FROM pg_database WHERE datname = current_database()) FROM t
-- @gives
-- é,é | bC.UTF-8
