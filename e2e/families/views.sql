-- Views: rules, views on views, recursive ones, check options, security barrier, column defaults, two that refer to each other.
-- @globals
CREATE ROLE fam_view_reader;

-- @setup
CREATE TABLE t (id int PRIMARY KEY, v text, n int); INSERT INTO t SELECT i, 'v' || i, i % 3 FROM generate_series(1, 20) i; CREATE TABLE log (what text, id int);

CREATE VIEW plain AS SELECT * FROM t; CREATE VIEW zzz_on_later AS SELECT id FROM plain; CREATE VIEW aaa_on_earlier AS SELECT id FROM zzz_on_later WHERE id > 3;
CREATE VIEW grouped AS SELECT id, v, count(*) AS c FROM t GROUP BY id;
CREATE VIEW checked WITH (security_barrier) AS SELECT id, v FROM t WHERE id > 10 WITH CASCADED CHECK OPTION; CREATE VIEW local_checked AS SELECT id FROM checked WHERE id < 100 WITH LOCAL CHECK OPTION;
CREATE RECURSIVE VIEW counting (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM counting WHERE n < 5;
CREATE VIEW "?column" AS SELECT 1 AS "?column?", 'x'::text COLLATE "C" AS c, ROW(1, 'a')::text AS r, (SELECT max(id) FROM t) AS "max id";
CREATE RULE ins AS ON INSERT TO plain DO INSTEAD (INSERT INTO t VALUES (NEW.id, NEW.v, 0); INSERT INTO log VALUES ('ins', NEW.id)); CREATE RULE del AS ON DELETE TO t WHERE OLD.id = 1 DO INSTEAD NOTHING; CREATE RULE note AS ON UPDATE TO t DO ALSO INSERT INTO log VALUES ('upd', OLD.id); ALTER TABLE t DISABLE RULE note;
ALTER VIEW checked ALTER v SET DEFAULT 'def'; CREATE VIEW empty AS SELECT; CREATE FUNCTION trg() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.log VALUES ('trg', NEW.c); RETURN NEW; END $$; CREATE TRIGGER instead INSTEAD OF INSERT ON grouped FOR EACH ROW EXECUTE FUNCTION trg();
CREATE VIEW joined (x, y) AS SELECT a.id, b.v FROM t a JOIN t b USING (id) LEFT JOIN LATERAL (SELECT a.id + b.id AS s) z ON true WHERE z.s % 2 = 0; GRANT SELECT (id), INSERT ON checked TO fam_view_reader; COMMENT ON VIEW joined IS 'j'; COMMENT ON COLUMN joined.x IS 'x'; COMMENT ON RULE ins ON plain IS 'rule';

-- Only a rule that is replaced later can make a circle.
CREATE VIEW one AS SELECT 1 AS id; CREATE VIEW two AS SELECT id FROM one; CREATE OR REPLACE VIEW one AS SELECT 1 AS id WHERE NOT EXISTS (SELECT FROM two);

-- @setup 15+
CREATE VIEW invoker WITH (security_invoker = true) AS SELECT id FROM t;

-- @check what they give
SELECT (SELECT count(*) FROM aaa_on_earlier), (SELECT sum(c) FROM grouped), (SELECT max(n) FROM counting), (SELECT "max id" FROM "?column"), (SELECT count(*) FROM joined), (SELECT count(*) FROM empty)
-- @gives
-- 17 | 20 | 5 | 20 | 20 | 1

-- @check rules work, and the disabled one does not
INSERT INTO plain VALUES (50, 'fifty'); DELETE FROM t WHERE id = 1; UPDATE t SET v = 'u' WHERE id = 2; INSERT INTO grouped VALUES (1, 'x', 7); SELECT (SELECT string_agg(what || id, ',' ORDER BY what) FROM log), (SELECT count(*) FROM t WHERE id = 1)
-- @gives
-- ins50,trg7 | 1

-- @check the check option
INSERT INTO local_checked VALUES (0)
-- @fails 44000

-- @check a default of the view
INSERT INTO checked (id) VALUES (60); SELECT v FROM t WHERE id = 60
-- @gives
-- def

-- @check views in a circle
SELECT count(*) FROM pg_views WHERE viewname IN ('one', 'two')
-- @gives
-- 2
