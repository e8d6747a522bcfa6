-- A database without an encoding: bytes that are no UTF-8 in rows and in names.
-- @database ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'

SET client_encoding = 'SQL_ASCII'; CREATE TABLE t (id int PRIMARY KEY, v text, c "char"[]); INSERT INTO t VALUES (1, E'\xff\xfe latin \xe9 utf8 \xc3\xa9'), (2, E'\x01\x7f\x80'), (3, E'tab\tnl\n\\ \xa4\\.');

DO $$ BEGIN EXECUTE convert_from('\x435245415445205441424c452022ff74e922202822e9ff22207465787429', 'SQL_ASCII'); EXECUTE convert_from('\x494e5345525420494e544f2022ff74e9222056414c55455320282778ff27293b', 'SQL_ASCII'); EXECUTE convert_from('\x43524541544520534348454d412022ff22', 'SQL_ASCII'); EXECUTE convert_from('\x435245415445205345515545 4e43452022ff222e22fe22'::bytea, 'SQL_ASCII'); END $$;

COMMENT ON TABLE t IS E'\xe9'; CREATE TYPE e AS ENUM (E'\xe9', 'b'); CREATE TABLE te (e e); INSERT INTO te VALUES (E'\xe9'); CREATE FUNCTION f() RETURNS text LANGUAGE sql AS E'SELECT ''\xe9''::text';

-- @check bytes
SELECT id, encode(v::bytea, 'hex') FROM t ORDER BY id

-- @check names
SELECT encode(relname::text::bytea, 'hex'), encode(nspname::text::bytea, 'hex') FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind IN ('r', 'S') AND nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1
-- @gives
-- 74 | 7075626c6963
-- 7465 | 7075626c6963
-- fe | ff
-- ff74e9 | 7075626c6963

-- @check an enum and a function
SELECT encode(e::text::bytea, 'hex'), encode(f()::bytea, 'hex') FROM te
-- @gives
-- e9 | e9
