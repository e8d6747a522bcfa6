-- Row security, forced too, with policies of every command: a superuser's backup has every row.
-- @globals
CREATE ROLE fam_rls_user; CREATE ROLE fam_rls_owner;

-- @setup
CREATE TABLE open (id int, who text); INSERT INTO open VALUES (1, 'fam_rls_user'), (2, 'b'), (3, NULL); ALTER TABLE open ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON open USING (who = current_user); GRANT ALL ON open TO fam_rls_user;

CREATE TABLE forced (id int, who text); INSERT INTO forced SELECT i, 'w' || i % 4 FROM generate_series(1, 100) i; ALTER TABLE forced OWNER TO fam_rls_owner; ALTER TABLE forced ENABLE ROW LEVEL SECURITY; ALTER TABLE forced FORCE ROW LEVEL SECURITY;
CREATE POLICY sel ON forced FOR SELECT TO fam_rls_user, fam_rls_owner USING (who = 'w1'); CREATE POLICY ins ON forced AS RESTRICTIVE FOR INSERT WITH CHECK (id < 1000); CREATE POLICY upd ON forced FOR UPDATE USING (EXISTS (SELECT FROM public.open o WHERE o.id = forced.id)); COMMENT ON POLICY sel ON forced IS 'sees w1'; GRANT SELECT ON forced TO fam_rls_user;
CREATE TABLE policies_off (id int); CREATE POLICY unused ON policies_off USING (false); INSERT INTO policies_off VALUES (1); CREATE TABLE no_policy (id int); ALTER TABLE no_policy ENABLE ROW LEVEL SECURITY; INSERT INTO no_policy VALUES (1), (2);
CREATE TABLE pt (k int) PARTITION BY LIST (k); CREATE TABLE pt1 PARTITION OF pt FOR VALUES IN (1); INSERT INTO pt VALUES (1); ALTER TABLE pt ENABLE ROW LEVEL SECURITY; ALTER TABLE pt1 ENABLE ROW LEVEL SECURITY; ALTER TABLE pt1 FORCE ROW LEVEL SECURITY;

-- @check every row is there
SELECT (SELECT count(*) FROM open), (SELECT count(*) FROM forced), (SELECT count(*) FROM no_policy), (SELECT count(*) FROM pt)
-- @gives
-- 3 | 100 | 2 | 1

-- @check others see what they may
SET ROLE fam_rls_user; SELECT (SELECT count(*) FROM open), (SELECT count(*) FROM forced)
-- @gives
-- 1 | 25

-- @check the owner too, where it is forced
SET ROLE fam_rls_owner; SELECT count(*) FROM forced
-- @gives
-- 25

-- @check which are on and forced
SELECT relname, relrowsecurity, relforcerowsecurity FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') ORDER BY 1
