package postgres_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/pg"
)

func TestServerProgramsAreFoundWithTheirExtensions(t *testing.T) {
	s := shared.Server(t)
	all := postgres.FindServers(t.Context(), []string{s.Bin})
	if len(all) == 0 || all[0].Version.Major() < 13 || !all[0].ExtensionsKnown || !slices.Contains(all[0].Extensions, "plpgsql") {
		t.Fatalf("found %+v", all)
	}
	for i, a := range all {
		for _, b := range all[i+1:] {
			if a.Folder == b.Folder {
				t.Errorf("%s is there twice", a.Folder)
			}
		}
	}

	// A folder with postgres alone is no installation, and one whose extensions
	// cannot be found says so.
	half, bare := t.TempDir(), filepath.Join(t.TempDir(), "x", "bin")
	if err := os.MkdirAll(bare, 0o755); err != nil {
		t.Fatal(err)
	}
	script := []byte("#!/bin/sh\necho 'postgres (PostgreSQL) 14.9'\n")
	for _, path := range []string{filepath.Join(half, "postgres"), filepath.Join(bare, "postgres"), filepath.Join(bare, "initdb")} {
		if err := os.WriteFile(path, script, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	all = postgres.FindServers(t.Context(), []string{half, bare})
	if all[0].Folder != bare || all[0].Version != 140009 || all[0].ExtensionsKnown || all[0].Amcheck != "" {
		t.Errorf("found first %+v", all[0])
	}
	if slices.ContainsFunc(all, func(s postgres.Server) bool { return s.Folder == half }) {
		t.Error("half an installation was found")
	}
	server := func(version int) postgres.Server { return postgres.Server{Folder: "/x", Version: pg.Version(version)} }
	list := []postgres.Server{server(170001), server(150003), server(160002), server(150001)}
	for want, have := range map[int]int{150003: 150009, 160002: 160000, 170001: 170000, 0: 180000} {
		if got, ok := postgres.ServerFor(list, pg.Version(have)); int(got.Version) != want || ok != (want != 0) {
			t.Errorf("for %d: %d, %v", have, got.Version, ok)
		}
	}
	if got, _ := postgres.ServerFor(list, 140000); got.Version != 150003 {
		t.Errorf("for 14: %d", got.Version)
	}
}
