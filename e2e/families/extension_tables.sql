-- Configuration tables of an extension: filters, foreign keys in circles, sequences.
-- @problem tvcfg_plain: without rows
-- @problem pg_dump: in the snapshot: warning: there are circular foreign-key constraints

CREATE EXTENSION tvcfg;

INSERT INTO tvcfg_conf VALUES (10, 'mine', 'x', false), (11, 'mine2', 'y', false), (200, 'built in, but above 100', 'z', true);
INSERT INTO tvcfg_child VALUES (1, 10), (2, 11);

INSERT INTO tvcfg_a VALUES (1, NULL); INSERT INTO tvcfg_b VALUES (1, 1); UPDATE tvcfg_a SET b = 1; INSERT INTO tvcfg_a VALUES (2, 1);
INSERT INTO tvcfg_log (note) SELECT 'n' || g FROM generate_series(1, 25) g;
INSERT INTO tvcfg_plain VALUES (1);
SELECT setval('tvcfg_seq', 77);

-- @globals
CREATE ROLE fam_ext_reader;

-- @setup
GRANT SELECT ON tvcfg_conf TO fam_ext_reader;

-- The extension's own row comes from the extension: as PostgreSQL's own dump has
-- it, a row that the filter leaves out is not in the backup.
-- @differs tvcfg_plain its rows are not registered

-- @check the filter kept what is built in out, and CREATE EXTENSION made it once
SELECT id, name FROM tvcfg_conf ORDER BY id
-- @gives
-- 1 | one
-- 10 | mine
-- 11 | mine2
-- 200 | built in, but above 100

-- @check the circle is whole
SELECT a.id, b.id FROM tvcfg_a a JOIN tvcfg_b b ON a.b = b.id ORDER BY 1
-- @gives
-- 1 | 1
-- 2 | 1

-- @check its foreign keys are watched
INSERT INTO tvcfg_child VALUES (9, 999)
-- @fails 23503

-- @check sequences go on
INSERT INTO tvcfg_log (note) VALUES ('next') RETURNING id; SELECT nextval('tvcfg_seq'), (SELECT max(id) FROM tvcfg_log)
-- @gives
-- 78 | 26

-- @check the privilege that differs from the extension's own
SELECT has_table_privilege('fam_ext_reader', 'tvcfg_conf', 'SELECT'), has_table_privilege('fam_ext_reader', 'tvcfg_child', 'SELECT')
-- @gives
-- t | f
