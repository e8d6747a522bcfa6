package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/postgres"
)

func TestClosingIsQuickWhateverCameBefore(t *testing.T) {
	s := shared.Server(t)
	for name, before := range map[string]func(context.Context, *postgres.Conn){
		"nothing":          func(context.Context, *postgres.Conn) {},
		"a canceled query": func(ctx context.Context, c *postgres.Conn) { _ = c.Exec(ctx, "SELECT pg_sleep(60)") },
		"a canceled query with arguments": func(ctx context.Context, c *postgres.Conn) {
			var v string
			_ = c.One(ctx, &v, "SELECT pg_sleep(60)::text || $1", "x")
		},
		"a query after the context ended": func(ctx context.Context, c *postgres.Conn) { <-ctx.Done(); _ = c.Exec(ctx, "SELECT 1") },
	} {
		t.Run(name, func(t *testing.T) {
			c, err := postgres.Connect(t.Context(), config(s), "postgres", "test")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			before(ctx, c)
			begun := time.Now()
			c.Close(ctx)
			if d := time.Since(begun); d > time.Second {
				t.Errorf("closing took %s", d)
			}
		})
	}
}
