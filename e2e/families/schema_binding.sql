-- What is found by a search path or by the name of another object: functions that need one, regclass columns that name indexes.

CREATE SCHEMA lib; CREATE TABLE lib.rates (k text, r int); INSERT INTO lib.rates VALUES ('a', 3); CREATE TABLE t (id int PRIMARY KEY, k text); INSERT INTO t VALUES (1, 'a'); CREATE INDEX t_k ON t (k); CREATE SEQUENCE seq; CREATE TYPE colour AS ENUM ('red');

CREATE FUNCTION lib.rate(text) RETURNS int LANGUAGE sql STABLE SET search_path = lib AS 'SELECT r FROM rates WHERE k = $1'; CREATE VIEW rated AS SELECT id, lib.rate(k) AS r FROM t; CREATE MATERIALIZED VIEW mrated AS SELECT id, lib.rate(k) AS r FROM t; ALTER DATABASE :DATABASE SET search_path = lib, public;
CREATE TABLE refers (id int, c regclass, p regproc, pr regprocedure, o regoper, ty regtype, n regnamespace, ro regrole, co regconfig, opr regoperator); INSERT INTO refers VALUES (1, 'public.t_k', 'lib.rate', 'lib.rate(text)', '||/', 'public.colour', 'lib', 'postgres', 'english', '+(int4,int4)'), (2, 'public.t_pkey', NULL, NULL, NULL, 'public.colour[]', NULL, NULL, NULL, NULL), (3, 'public.mrated', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL), (4, 'pg_class', 'now', NULL, NULL, 'int', NULL, NULL, NULL, NULL); CREATE INDEX refers_c ON refers (c);

-- @check names still lead to what they named
SELECT r.id, r.c::text, r.p, r.pr, r.ty, r.n, (SELECT relkind FROM pg_class WHERE oid = r.c) FROM refers r ORDER BY id

-- @check the view's function finds its table
SELECT (SELECT r FROM public.rated), (SELECT r FROM public.mrated)
-- @gives
-- 3 | 3
