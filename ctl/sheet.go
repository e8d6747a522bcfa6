package ctl

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tuskvault/tuskvault/ctl/internal/print"
	"github.com/tuskvault/tuskvault/internal/durable"
	"github.com/tuskvault/tuskvault/internal/exit"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
	"github.com/tuskvault/tuskvault/internal/unlock"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// keyExportCmd makes a recovery sheet: a key of its own, which is made here and
// is nowhere but on the sheet. In this order: the key is added, the sheet is given
// out. A crash between leaves a key that nobody has, shown as not confirmed.
func (a *app) keyExportCmd() *cobra.Command {
	var output, name string
	c := &cobra.Command{Use: "export [--file PATH]", Short: "Make a recovery sheet to print: a key of its own that opens the repository",
		Long: `Makes a recovery sheet: a page to print and keep where nothing else burns, with a
new key that opens the repository. It is shown once, on standard output or in a
file for you alone, and is nowhere else. When it is printed, say so by
"tuskctl repo key confirm" and the word on it, and delete the file.`,
		Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
			if output == "" && a.output != string(print.FormatTable) {
				return exit.WrongUsage(fmt.Errorf("the sheet is text for people: name a file by --file, or leave -o %s out", a.output))
			}
			key, word := seal.NewKeyFile(), unlock.ConfirmWord()
			confirmation := unlock.Confirmation(word)
			return a.keys(c, func(ctx context.Context, api tuskvaultv1.KeyServiceClient) error {
				if output != "" {
					if err := writeNewFile(output, nil); err != nil { // refused before a key is made
						return err
					}
				}
				r, err := api.AddKey(ctx, &tuskvaultv1.AddKeyRequest{Id: repo.NewID().String(), Name: name, Unlocker: derived(key.Derive()), SheetConfirmation: confirmation[:]})
				if err != nil {
					return err
				}
				sheet := sheetText(r, key, word, a.now())
				if output == "" {
					_, err := fmt.Fprint(a.Out, sheet)
					return err
				}
				if err := durable.WriteFile(output, []byte(sheet)); err != nil {
					return err
				}
				k := r.GetKey()
				return a.printer().Print(print.View{Message: k, Names: []string{k.GetId()}, Text: "recovery sheet in " + output + ": print it, delete the file, and run: tuskctl repo key confirm\n"})
			})
		}}
	c.Flags().StringVar(&output, "file", "", "write the sheet to this new file, mode 0600")
	c.Flags().StringVar(&name, "name", "sheet", "name of the key, for people")
	return c
}

// sheetText is the page.
func sheetText(r *tuskvaultv1.AddKeyResponse, key *seal.KeyFile, word string, now time.Time) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("Tuskvault recovery sheet")
	line("")
	line("Whoever has this sheet and the store can read every backup in it. Keep it where")
	line("neither the store nor the controller is. Without any key the backups are lost.")
	line("")
	line("repository   %s (%s)", r.GetRepositoryName(), r.GetRepositoryId())
	line("store        %s", r.GetStore())
	line("key          %s, made %s", print.Short(r.GetKey().GetId()), now.UTC().Format(time.DateOnly))
	line("witness      record %d, epoch %d, %s", r.GetLogNumber(), r.GetLogEpoch(), hex.EncodeToString(r.GetLogHash()[:min(8, len(r.GetLogHash()))]))
	line("")
	for _, row := range unlock.Sheet(key) {
		line("    %s", row)
	}
	line("")
	line("To use it, type the nine lines above into a file, mode 0600; the third word of")
	line("each row finds mistypings. Then make the controller again:")
	line("")
	line("    tuskvault-controller rebuild --state-dir DIR --store URL --unlock file:PATH")
	line("")
	line("To say that this sheet exists: tuskctl repo key confirm %s", word)
	return b.String()
}
