-- Extended statistics, statistics targets, per-column options, storage and compression, fillfactor and other parameters.
-- @globals
CREATE ROLE fam_stat_owner;

-- @setup
CREATE SCHEMA st; CREATE TABLE st.t (a int, b int, c text, d numeric); INSERT INTO st.t SELECT i, i % 10, 'c' || i % 7, i FROM generate_series(1, 1000) i;

CREATE STATISTICS st.s1 (ndistinct, dependencies, mcv) ON a, b FROM st.t; CREATE STATISTICS "odd ""stat" ON c, d FROM st.t; ALTER STATISTICS st.s1 OWNER TO fam_stat_owner; ALTER STATISTICS st.s1 SET STATISTICS 55; COMMENT ON STATISTICS st.s1 IS 's1';
ALTER TABLE st.t ALTER a SET STATISTICS 500, ALTER b SET (n_distinct = -0.5, n_distinct_inherited = 3), ALTER c SET STORAGE EXTERNAL, ALTER d SET STORAGE MAIN; ALTER TABLE st.t SET (fillfactor = 70, autovacuum_enabled = false, toast.autovacuum_vacuum_threshold = 7, parallel_workers = 3); CREATE INDEX ix ON st.t (a, (b + 1), lower(c)) WITH (fillfactor = 55, deduplicate_items = off); ALTER INDEX st.ix ALTER COLUMN 2 SET STATISTICS 77;
CREATE INDEX brin ON st.t USING brin (d numeric_minmax_ops) WITH (pages_per_range = 4, autosummarize = on); CREATE INDEX hash ON st.t USING hash (c); CREATE TABLE st.clustered (k int PRIMARY KEY); INSERT INTO st.clustered VALUES (3), (1), (2); ALTER TABLE st.clustered CLUSTER ON clustered_pkey; CREATE TABLE st.no_toast (n int) WITH (user_catalog_table = true);

-- @setup 14+
CREATE STATISTICS st.expr ON (a + b), lower(c) FROM st.t; ALTER TABLE st.t ALTER c SET COMPRESSION pglz; CREATE INDEX multi ON st.t USING brin (a int4_minmax_multi_ops (values_per_range = 16), b int4_bloom_ops (n_distinct_per_range = 100, false_positive_rate = 0.05));

-- @setup
ANALYZE st.t;

-- @check they are there
SELECT stxname, stxowner::regrole::text, stxkeys::text, stxkind::text FROM pg_statistic_ext ORDER BY 1

-- @check statistics were gathered after the restore
SELECT count(*) > 2 FROM pg_stats WHERE schemaname = 'st' AND tablename = 't'
-- @gives
-- t

-- @check which index orders the table
SELECT indexrelid::regclass::text FROM pg_index WHERE indisclustered
-- @gives
-- st.clustered_pkey
