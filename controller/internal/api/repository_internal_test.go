package api

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/repo"
)

func TestFindingsComeInPagesThatFitAMessage(t *testing.T) {
	c := catalog.Check{ID: repo.NewID()}
	for i := range catalog.MaxCheckFindings {
		f := catalog.CheckFinding{Object: fmt.Sprintf("packs/%d", i), Problem: "damaged", Detail: strings.Repeat("x", 500)}
		for range catalog.MaxCheckEffects {
			f.Effects = append(f.Effects, catalog.CheckEffect{Snapshot: repo.NewID(), Database: strings.Repeat("d", 60), Object: strings.Repeat("o", 60)})
		}
		c.Findings = append(c.Findings, f)
	}
	for _, size := range []int{1, 7, 1000} {
		seen, pages := 0, 0
		for page := (catalog.Page{Size: size}); ; pages++ {
			rows, next, err := findingsPage(c, page)
			if err != nil || len(rows) > size {
				t.Fatalf("size %d, page %d: %d rows, %v", size, pages, len(rows), err)
			}
			bytes := 0
			for _, f := range rows {
				if f.Object != fmt.Sprintf("packs/%d", seen) {
					t.Fatalf("finding %d is %s", seen, f.Object)
				}
				seen++
				bytes += proto.Size(toFinding(f, nil))
			}
			if bytes > 2<<20 {
				t.Errorf("a page of %d bytes", bytes)
			}
			if page.Token = next; next == "" {
				break
			}
		}
		if seen != catalog.MaxCheckFindings || size == 1000 && pages == 0 {
			t.Errorf("size %d: %d findings on %d pages", size, seen, pages+1)
		}
	}
	_, token, err := findingsPage(c, catalog.Page{Size: 5})
	if err != nil || token == "" {
		t.Fatal(token, err)
	}
	other := c
	other.ID = repo.NewID()
	for _, bad := range []string{"!", "bm9uZQ", token + "A"} {
		if _, _, err := findingsPage(c, catalog.Page{Size: 5, Token: bad}); err == nil && bad != token {
			t.Errorf("token %q was taken", bad)
		}
	}
	if _, _, err := findingsPage(other, catalog.Page{Size: 5, Token: token}); err == nil {
		t.Error("a token of another check was taken")
	}
}
