package load_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pgtest"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// liveDatabase is a shop in use: tables with everything that hangs on a table.
func liveDatabase(t *testing.T, s *pgtest.Server) string {
	t.Helper()
	makeRoles(t, s)
	db := s.Database(t)
	s.Exec(t, db, `CREATE SCHEMA sales AUTHORIZATION app_owner`,
		`CREATE TYPE sales.kind AS ENUM ('a', 'b'); CREATE DOMAIN sales.positive AS int CHECK (value > 0);
		CREATE FUNCTION sales.low(text) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT lower($1) $$`,
		`CREATE TABLE sales.customers (id serial PRIMARY KEY, name text NOT NULL, low text GENERATED ALWAYS AS (sales.low(name)) STORED);
		CREATE TABLE sales.orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer int NOT NULL REFERENCES sales.customers, k sales.kind, n sales.positive, CONSTRAINT big CHECK (n < 1000000));
		CREATE TABLE sales.items (id bigserial PRIMARY KEY, ord int REFERENCES sales.orders ON DELETE CASCADE, what text);
		CREATE TABLE sales.log (i int); CREATE TABLE sales.parts (k int, v text, PRIMARY KEY (k)) PARTITION BY RANGE (k);
		CREATE TABLE sales.parts_1 PARTITION OF sales.parts FOR VALUES FROM (0) TO (100); CREATE TABLE sales.parts_2 PARTITION OF sales.parts FOR VALUES FROM (100) TO (MAXVALUE);
		CREATE TABLE sales.uses_part (k int REFERENCES sales.parts)`,
		`CREATE INDEX items_low ON sales.items (sales.low(what)); CREATE STATISTICS sales.st ON customer, k FROM sales.orders; COMMENT ON TABLE sales.orders IS 'the orders'; COMMENT ON COLUMN sales.orders.n IS 'how many';
		CREATE FUNCTION sales.logs() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO sales.log VALUES (1); RETURN NULL; END $$;
		CREATE TRIGGER logs AFTER INSERT OR DELETE ON sales.orders FOR EACH ROW EXECUTE FUNCTION sales.logs();
		CREATE VIEW sales.seen AS SELECT o.id, c.name FROM sales.orders o JOIN sales.customers c ON c.id = o.customer; CREATE MATERIALIZED VIEW sales.counted AS SELECT count(*) FROM sales.orders;
		ALTER TABLE sales.orders OWNER TO app_owner; GRANT SELECT ON sales.orders, sales.seen TO app_reader; CREATE POLICY p ON sales.orders TO app_reader USING (n > 3); ALTER TABLE sales.orders ENABLE ROW LEVEL SECURITY; CREATE PUBLICATION pub FOR TABLE sales.orders`,
		`INSERT INTO sales.customers (name) SELECT 'Name ' || g FROM generate_series(1, 100) g; INSERT INTO sales.orders (customer, k, n) SELECT 1 + g % 100, (ARRAY['a', 'b'])[1 + g % 2]::sales.kind, g FROM generate_series(1, 2000) g;
		INSERT INTO sales.items (ord, what) SELECT 1 + g % 2000, 'What ' || g FROM generate_series(1, 3000) g; INSERT INTO sales.parts SELECT g, 'v' || g FROM generate_series(1, 200) g; INSERT INTO sales.uses_part VALUES (50), (150);
		REFRESH MATERIALIZED VIEW sales.counted; TRUNCATE sales.log`)
	return db
}

func live(db string, replace bool, tables ...string) job.Restore {
	return job.Restore{Snapshot: repo.ID{1}, Instance: "main", Databases: []job.Mapping{{Source: db}}, Jobs: 2, Live: true, Replace: replace, Tables: tables}
}

// rowsOf gives the digest of a table.
func rowsOf(t *testing.T, s *pgtest.Server, db, table string) string {
	t.Helper()
	return s.Query(t, db, "SELECT count(*) || ' ' || coalesce(sum(hashtextextended(t::text, 0)), 0) FROM "+table+" t")[0][0]
}

func schemas(t *testing.T, s *pgtest.Server, db string) string {
	t.Helper()
	return s.Query(t, db, "SELECT coalesce(string_agg(nspname, ' ' ORDER BY nspname), '') FROM pg_namespace WHERE nspname ~ '^tuskvault|^side'")[0][0]
}

func problems(out []repo.Problem) string {
	var all []string
	for _, p := range out {
		all = append(all, p.Severity+": "+p.Object+": "+p.Reason+" | "+p.Hint)
	}
	return strings.Join(all, "\n")
}

func TestTablesComeBesideThoseInUse(t *testing.T) {
	s := shared.Server(t)
	db := liveDatabase(t, s)
	m, c := backUp(t, s, db)
	want := map[string]string{}
	for _, x := range []string{"orders", "items", "parts"} {
		want[x] = rowsOf(t, s, db, "sales."+x)
	}
	s.Exec(t, db, "DELETE FROM sales.orders WHERE id > 500", "DROP TABLE sales.uses_part", "TRUNCATE sales.parts", "DROP TYPE IF EXISTS sales.unused")
	before := schema(t, s, db)
	r := live(db, false, "sales.orders", "items", "sales.parts")
	r.LiveSchema = "side one"
	p := prepare(t, s, m, c, repo.NewID(), r)
	says(t, planText(p), "in use: 4 tables come into the new schema side one", "orders_customer_fkey: left out: it needs TABLE sales.customers, which is not selected",
		`DROP SCHEMA "side one" CASCADE;`, "what holds between tables is not restored", "TRIGGER sales.orders logs: left out")
	out := p.Run(t.Context())
	if out.Err != nil {
		t.Fatal(out.Err, problems(out.Problems))
	}
	says(t, problems(out.Problems), "side one: holds the restored tables", `DROP SCHEMA "side one" CASCADE;`)
	for x, w := range want {
		if got := rowsOf(t, s, db, `"side one".`+x); got != w {
			t.Errorf("%s: %s, want %s", x, got, w)
		}
	}
	for what, query := range map[string][2]string{
		"indexes":     {"SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = '\"side one\".items'::regclass ORDER BY 1", `CREATE INDEX items_low ON "side one".items USING btree (sales.low(what))`},
		"keys":        {"SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = '\"side one\".items'::regclass AND contype = 'f'", `FOREIGN KEY (ord) REFERENCES "side one".orders(id) ON DELETE CASCADE`},
		"checks":      {"SELECT conname FROM pg_constraint WHERE conrelid = '\"side one\".orders'::regclass AND contype = 'c'", "big"},
		"comments":    {"SELECT obj_description('\"side one\".orders'::regclass) || col_description('\"side one\".orders'::regclass, 4)", "the ordershow many"},
		"default":     {"SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = '\"side one\".items'::regclass", `nextval('"side one".items_id_seq'::regclass)`},
		"sequence":    {`SELECT last_value || ' ' || is_called FROM "side one".items_id_seq`, "3000 true"},
		"identity":    {`SELECT pg_get_serial_sequence('"side one".orders', 'id')`, `"side one".orders_id_seq`},
		"owner":       {"SELECT relowner::regrole || ' ' || relrowsecurity FROM pg_class WHERE oid = '\"side one\".orders'::regclass", "app_owner true"},
		"policy":      {"SELECT polname FROM pg_policy WHERE polrelid = '\"side one\".orders'::regclass", "p"},
		"partitions":  {"SELECT count(*) FROM pg_inherits WHERE inhparent = '\"side one\".parts'::regclass", "2"},
		"types":       {"SELECT format_type(atttypid, -1) FROM pg_attribute WHERE attrelid = '\"side one\".orders'::regclass AND attname = 'k'", "sales.kind"},
		"no triggers": {"SELECT count(*) FROM pg_trigger WHERE tgrelid = '\"side one\".orders'::regclass AND NOT tgisinternal", "0"},
		"statistics":  {"SELECT count(*) FROM pg_stats WHERE schemaname = 'side one' AND tablename = 'items'", "3"},
		"mark":        {"SELECT obj_description('\"side one\"'::regnamespace) ~ 'to drop them: DROP SCHEMA \"side one\" CASCADE;'", "t"},
	} {
		got := s.Query(t, db, query[0])
		if len(got) == 0 || got[0][0] != query[1] {
			t.Errorf("%s: %v, want %s", what, got, query[1])
		}
	}
	if n := s.Query(t, db, "SELECT count(*) FROM sales.log")[0][0]; n != "1500" { // of the deletes above
		t.Errorf("triggers fired: %s", n)
	}
	// Once more is refused, and what is live is as it was once the schema is gone.
	again := prepare(t, s, m, c, repo.NewID(), r)
	if err := again.Plan().Err(); !errors.Is(err, errs.Exists) {
		t.Errorf("%v", err)
	}
	s.Exec(t, db, `DROP SCHEMA "side one" CASCADE`)
	if d := cmp.Diff(before, schema(t, s, db)); d != "" {
		t.Errorf("something live changed:\n%s", d)
	}
}

// What a new database is given because the source had it, or has taken away because
// the source had it not, is nothing for one in use.
func TestADatabaseInUseKeepsWhatTheSourceDidNotHave(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	s.Exec(t, db, "CREATE SCHEMA s; CREATE TABLE s.t AS SELECT 1 AS i; DROP SCHEMA public; DROP EXTENSION plpgsql")
	m, c := backUp(t, s, db)
	s.Exec(t, db, "CREATE SCHEMA public; CREATE EXTENSION plpgsql; UPDATE s.t SET i = 2")
	for _, r := range []job.Restore{live(db, false, "s.t"), live(db, true, "s.t")} {
		if out := prepare(t, s, m, c, repo.NewID(), r).Run(t.Context()); out.Err != nil {
			t.Fatal(out.Err)
		}
	}
	if got := s.Query(t, db, "SELECT (SELECT count(*) FROM pg_extension WHERE extname = 'plpgsql'), (SELECT count(*) FROM pg_namespace WHERE nspname = 'public'), (SELECT i FROM s.t)")[0]; strings.Join(got, " ") != "1 1 1" {
		t.Errorf("plpgsql, public, row: %v", got)
	}
}

func TestWhatATableNeedsAndNoLongerExistsComesBesideToo(t *testing.T) {
	s := shared.Server(t)
	db := liveDatabase(t, s)
	m, c := backUp(t, s, db)
	s.Exec(t, db, "DROP SCHEMA sales CASCADE")
	out := prepare(t, s, m, c, repo.NewID(), func() job.Restore {
		r := live(db, false, "sales.orders", "sales.items")
		r.LiveSchema = "side"
		return r
	}()).Run(t.Context())
	if out.Err != nil {
		t.Fatal(out.Err, problems(out.Problems))
	}
	got := s.Query(t, db, "SELECT format_type(atttypid, -1) FROM pg_attribute WHERE attrelid = 'side.orders'::regclass AND attname IN ('k', 'n') ORDER BY attname")
	if len(got) != 2 || got[0][0] != "side.kind" || got[1][0] != "side.positive" {
		t.Errorf("%v", got)
	}
	s.Exec(t, db, "ALTER SCHEMA side RENAME TO sales") // as a person would bring it back
	if n := s.Query(t, db, "SELECT count(*) FROM sales.items WHERE sales.low(what) = 'what 7'")[0][0]; n != "1" {
		t.Errorf("%s", n)
	}
}

// busy reads and writes the tables until stop is called; it gives the row counts
// of orders that readers saw.
func busy(t *testing.T, s *pgtest.Server, db string) (stop func() map[string]int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	seen := map[string]int{}
	fail := make(chan error, 2)
	for _, q := range []string{"SELECT (SELECT count(*) FROM sales.orders) || ' ' || (SELECT count(*) FROM sales.items)", "INSERT INTO sales.items (ord, what) SELECT min(id), 'busy' FROM sales.orders; DELETE FROM sales.items WHERE what = 'busy'; SELECT ''"} {
		work.Go(func() {
			c, err := pgconn.Connect(ctx, s.URL(db))
			if err != nil {
				fail <- err
				return
			}
			defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
			for ctx.Err() == nil {
				res, err := c.Exec(context.WithoutCancel(ctx), q).ReadAll()
				if err != nil {
					fail <- fmt.Errorf("%s: %w", q, err)
					return
				}
				if n := string(res[len(res)-1].Rows[0][0]); n != "" {
					seen[n]++
				}
			}
		})
	}
	return func() map[string]int {
		cancel()
		work.Wait()
		select {
		case err := <-fail:
			t.Errorf("the application failed: %v", err)
		default:
		}
		return seen
	}
}

func TestRowsAreReplacedInPlaceWhileTheTablesAreInUse(t *testing.T) {
	s := shared.Server(t)
	db := liveDatabase(t, s)
	m, c := backUp(t, s, db)
	tables := []string{"sales.orders", "sales.items", "sales.parts", "sales.customers"}
	want := map[string]string{}
	for _, x := range tables {
		want[x] = rowsOf(t, s, db, x)
	}
	s.Exec(t, db, "ALTER TABLE sales.orders DISABLE TRIGGER logs; DELETE FROM sales.items WHERE id <= 1000; DELETE FROM sales.orders WHERE id > 1500; UPDATE sales.orders SET n = n + 1; DELETE FROM sales.parts WHERE k = 7; ALTER TABLE sales.orders ENABLE TRIGGER logs",
		// Far below the rows that are there: the busy session draws a number each time.
		"ALTER SEQUENCE sales.items_id_seq MINVALUE -1000000000 RESTART WITH -1000000; SELECT setval('sales.orders_id_seq', 9000)", "INSERT INTO sales.customers (id, name) VALUES (500, 'new')")
	before, oids := schema(t, s, db), s.Query(t, db, "SELECT 'sales.orders'::regclass::oid, 'sales.parts_1'::regclass::oid")
	items := s.Query(t, db, "SELECT count(*), count(*) + 1 FROM sales.items")[0] // one comes and goes
	allowed := map[string]bool{"1500 " + items[0]: true, "1500 " + items[1]: true, "2000 3000": true, "2000 3001": true}
	stop := busy(t, s, db)
	old := rowsOf(t, s, db, "sales.orders")

	p := prepare(t, s, m, c, repo.NewID(), live(db, true, tables...))
	lines := planText(p)
	says(t, lines, "replace the rows of 4 tables", "table sales.orders: readers see the old rows until the end, writers wait", "foreign key uses_part_k_fkey of sales.uses_part to sales.parts is checked",
		"materialized view sales.counted: shows the old rows", "the replaced rows are kept in schema tuskvault_replaced_")
	out := p.Run(t.Context())
	seen := stop()
	if out.Err != nil {
		t.Fatal(out.Err, problems(out.Problems))
	}
	for _, x := range tables {
		if got := rowsOf(t, s, db, x); got != want[x] && x != "sales.items" { // which somebody else writes
			t.Errorf("%s: %s, want %s", x, got, want[x])
		}
	}
	for pair, n := range seen {
		if !allowed[pair] {
			t.Errorf("readers saw %s orders and items %d times: half of it", pair, n)
		}
	}
	if len(seen) < 2 {
		t.Errorf("readers saw %v: they were kept out", seen)
	}
	kept := schemas(t, s, db)
	if strings.Contains(kept, "restore") || !strings.HasPrefix(kept, "tuskvault_replaced_") {
		t.Fatalf("schemas left: %s", kept)
	}
	if got := rowsOf(t, s, db, kept+".orders"); got != old {
		t.Errorf("kept rows: %s, want %s", got, old)
	}
	if got := s.Query(t, db, "SELECT (SELECT count(*) FROM sales.log), (SELECT last_value FROM sales.orders_id_seq), (SELECT last_value >= 3000 FROM sales.items_id_seq), (SELECT count(*) FROM sales.seen)")[0]; got[0] != "0" || got[1] != "9000" || got[2] != "t" || got[3] != "2000" {
		t.Errorf("log, sequences, view: %v", got)
	}
	says(t, problems(out.Problems), "keeps the rows that were replaced", "DROP SCHEMA \""+kept+"\" CASCADE;")
	s.Exec(t, db, "DROP SCHEMA "+kept+" CASCADE")
	if d := cmp.Diff(before, schema(t, s, db)); d != "" {
		t.Errorf("more than rows changed:\n%s", d)
	}
	if now := s.Query(t, db, "SELECT 'sales.orders'::regclass::oid, 'sales.parts_1'::regclass::oid"); cmp.Diff(oids, now) != "" {
		t.Errorf("other tables than before: %v %v", oids, now)
	}
}

func TestReplacingRowsIsRefusedWhereItCannotBeRight(t *testing.T) {
	s := shared.Server(t)
	db := liveDatabase(t, s)
	m, c := backUp(t, s, db)
	for name, x := range map[string]struct {
		change, undo string
		tables       []string
		want         string
		late         bool // known only when the rows are there
	}{
		"columns differ":        {"ALTER TABLE sales.log ADD extra int", "ALTER TABLE sales.log DROP extra", []string{"sales.log"}, "its columns differ: only in the snapshot (), only in the live table (extra)", false},
		"the table is gone":     {"ALTER TABLE sales.log RENAME TO log2", "ALTER TABLE sales.log2 RENAME TO log", []string{"sales.log"}, "table sales.log: does not exist in the live database", false},
		"a trigger always on":   {"ALTER TABLE sales.orders ENABLE ALWAYS TRIGGER logs", "ALTER TABLE sales.orders ENABLE TRIGGER logs", []string{"sales.orders"}, "ENABLE ALWAYS or REPLICA", false},
		"no replica identity":   {"CREATE PUBLICATION pub2 FOR TABLE sales.log", "DROP PUBLICATION pub2", []string{"sales.log"}, "is published without a replica identity", false},
		"rows refer to none":    {"INSERT INTO sales.customers (id, name) VALUES (999, 'x'); ALTER TABLE sales.orders DISABLE TRIGGER logs; INSERT INTO sales.orders (customer) VALUES (999)", "DELETE FROM sales.orders WHERE customer = 999; DELETE FROM sales.customers WHERE id = 999; ALTER TABLE sales.orders ENABLE TRIGGER logs; TRUNCATE sales.log", []string{"sales.customers"}, "foreign key orders_customer_fkey of sales.orders to sales.customers would be violated by 1 rows", true},
		"referred to is gone":   {"DELETE FROM sales.uses_part; DELETE FROM sales.parts WHERE k = 50", "INSERT INTO sales.parts VALUES (50, 'v50'); INSERT INTO sales.uses_part VALUES (50), (150)", []string{"sales.uses_part"}, "uses_part_k_fkey of sales.uses_part to sales.parts would be violated by 1 rows", true},
		"a partition refers":    {"INSERT INTO sales.parts VALUES (300); INSERT INTO sales.uses_part VALUES (300)", "DELETE FROM sales.uses_part WHERE k = 300; DELETE FROM sales.parts WHERE k = 300", []string{"sales.parts_2"}, "would be violated by 1 rows", true},
		"a new unique index":    {"UPDATE sales.orders SET customer = 3 WHERE id = 101; CREATE UNIQUE INDEX one ON sales.orders (customer) WHERE id IN (1, 101)", "DROP INDEX sales.one; UPDATE sales.orders SET customer = 2 WHERE id = 101", []string{"sales.orders"}, "duplicate key value violates unique constraint", true},
		"a check that is newer": {"ALTER TABLE sales.items ADD CONSTRAINT newer CHECK (what <> 'What 7') NOT VALID", "ALTER TABLE sales.items DROP CONSTRAINT newer", []string{"sales.items"}, "newer", true},
	} {
		t.Run(name, func(t *testing.T) {
			s.Exec(t, db, x.change)
			defer s.Exec(t, db, x.undo)
			all := "SELECT string_agg(x, '|') FROM (" + "SELECT o::text FROM (SELECT * FROM sales.orders ORDER BY id) o UNION ALL SELECT c::text FROM sales.customers c UNION ALL SELECT p::text FROM sales.parts p UNION ALL SELECT u::text FROM sales.uses_part u) y(x)"
			before := s.Query(t, db, all)[0][0]
			p := prepare(t, s, m, c, repo.NewID(), live(db, true, x.tables...))
			err := p.Plan().Err()
			if x.late != (err == nil) {
				t.Fatalf("planned: %v", err)
			}
			if out := p.Run(t.Context()); out.Err == nil || !strings.Contains(out.Err.Error()+planText(p), x.want) {
				t.Errorf("%v", out.Err)
			}
			if after := s.Query(t, db, all)[0][0]; after != before {
				t.Error("rows changed")
			}
			if left := schemas(t, s, db); left != "" {
				t.Errorf("left: %s", left)
			}
		})
	}
}

func TestAWriterThatDoesNotEndIsNotWaitedForForever(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the whole patience")
	}
	s := shared.Server(t)
	db := liveDatabase(t, s)
	m, c := backUp(t, s, db)
	holder, err := pgconn.Connect(t.Context(), s.URL(db))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Close(context.WithoutCancel(t.Context())) }()
	if _, err := holder.Exec(t.Context(), "BEGIN; UPDATE sales.orders SET n = 1 WHERE id = 1").ReadAll(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	out := prepare(t, s, m, c, repo.NewID(), live(db, true, "sales.orders")).Run(ctx)
	if out.Err == nil {
		t.Fatal("rows were replaced under a lock")
	}
	if left := schemas(t, s, db); left != "" {
		t.Errorf("left: %s", left)
	}
	if _, err := holder.Exec(t.Context(), "COMMIT").ReadAll(); err != nil {
		t.Error(err)
	}
}
