-- Publications of every kind, and subscriptions, which come back disabled and never connect.
-- @problem subscription sub_on: was restored disabled
-- @problem subscription sub "off: was restored disabled
-- @problem subscription no_slot: was restored disabled
-- @globals
CREATE ROLE fam_pub_super SUPERUSER;

-- @setup
CREATE SCHEMA s; CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int, v text NOT NULL, UNIQUE (v)); ALTER TABLE b REPLICA IDENTITY USING INDEX b_v_key; CREATE TABLE s.c (id int, "odd col" text); ALTER TABLE s.c REPLICA IDENTITY FULL; CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;

CREATE TABLE pt (k int PRIMARY KEY) PARTITION BY RANGE (k); CREATE TABLE pt1 PARTITION OF pt FOR VALUES FROM (0) TO (9); INSERT INTO a VALUES (1, 'x');
CREATE PUBLICATION "fam all" FOR ALL TABLES; CREATE PUBLICATION part FOR TABLE a, b WITH (publish = 'insert, delete'); CREATE PUBLICATION of_nothing; CREATE PUBLICATION root FOR TABLE pt WITH (publish_via_partition_root = true); ALTER PUBLICATION part OWNER TO fam_pub_super; COMMENT ON PUBLICATION part IS 'part';

CREATE SUBSCRIPTION sub_on CONNECTION 'host=/nonexistent dbname=x password=sec''ret\x' PUBLICATION p, "q p" WITH (connect = false, slot_name = 'fam_slot');

CREATE SUBSCRIPTION "sub ""off" CONNECTION 'host=/nonexistent dbname=y' PUBLICATION p WITH (connect = false, slot_name = 'off_slot', synchronous_commit = 'on'); ALTER SUBSCRIPTION "sub ""off" OWNER TO fam_pub_super; COMMENT ON SUBSCRIPTION "sub ""off" IS 'off';

CREATE SUBSCRIPTION no_slot CONNECTION 'host=/nonexistent' PUBLICATION p WITH (connect = false, slot_name = NONE);

-- @setup 15+
CREATE PUBLICATION filtered FOR TABLE a WHERE (id > 5), b (v); CREATE PUBLICATION of_schema FOR TABLES IN SCHEMA s;

-- @check what they publish
SELECT pubname, schemaname, tablename FROM pg_publication_tables ORDER BY 1, 2, 3

-- @check how
SELECT pubname, pubowner::regrole::text, puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot FROM pg_publication ORDER BY 1

-- @check subscriptions keep everything and do nothing
SELECT subname, subowner::regrole::text, subenabled, subconninfo, subslotname, subsynccommit, array_to_string(subpublications, ','), (SELECT count(*) FROM pg_stat_subscription WHERE pid IS NOT NULL) FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1
-- @gives
-- no_slot | postgres | f | host=/nonexistent | NULL | off | p | 0
-- sub "off | fam_pub_super | f | host=/nonexistent dbname=y | off_slot | on | p | 0
-- sub_on | postgres | f | host=/nonexistent dbname=x password=sec'ret\x | fam_slot | off | p,q p | 0

-- @check replica identities
SELECT relname, relreplident FROM pg_class WHERE relkind = 'r' AND relnamespace IN ('public'::regnamespace, 's'::regnamespace) ORDER BY 1
