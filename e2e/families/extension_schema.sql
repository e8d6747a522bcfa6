-- Extensions in schemas of their own, one with a name that must be quoted, and tables with their types.

CREATE SCHEMA "Ext ""ra"; CREATE SCHEMA ext;

CREATE EXTENSION tvcfg SCHEMA "Ext ""ra"; CREATE EXTENSION hstore SCHEMA ext; CREATE EXTENSION citext SCHEMA ext; CREATE EXTENSION btree_gist SCHEMA ext;

-- @problem tvcfg_plain: without rows
-- @problem pg_dump: in the snapshot: warning: there are circular foreign-key constraints
-- @setup
INSERT INTO "Ext ""ra".tvcfg_conf VALUES (12, 'twelve', 'v', false);

CREATE TABLE t (id int PRIMARY KEY, h ext.hstore, c ext.citext UNIQUE, r int4range, EXCLUDE USING gist (id WITH OPERATOR(pg_catalog.=), r WITH &&));
INSERT INTO t VALUES (1, 'a=>1, b=>NULL', 'Straße', '[1,5)'), (2, '', 'x', 'empty'), (3, NULL, NULL, NULL);
CREATE INDEX ON t USING gin (h);

-- @check operators of the extension are found
SELECT id FROM t WHERE h OPERATOR(ext.->) 'a' = '1' AND c OPERATOR(ext.=) 'STRAßE'
-- @gives
-- 1

-- @check the unique index of a type of the extension
INSERT INTO t VALUES (4, NULL, 'X', NULL)
-- @fails 23505

-- @check each extension is where it was
SELECT extname, nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = extnamespace WHERE extname <> 'plpgsql' ORDER BY 1
-- @gives
-- btree_gist | ext
-- citext | ext
-- hstore | ext
-- tvcfg | Ext "ra

-- @check its configuration
SELECT id FROM "Ext ""ra".tvcfg_conf ORDER BY 1
-- @gives
-- 1
-- 12
