package ctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tuskvault/tuskvault/ctl/internal/print"
	"github.com/tuskvault/tuskvault/internal/config"
	"github.com/tuskvault/tuskvault/internal/durable"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/exit"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// minPassphrase is the fewest characters of a passphrase that is added: it alone
// stands between whoever has the store and everything in it.
const minPassphrase = 12

func (a *app) keyCmd() *cobra.Command {
	c := &cobra.Command{Use: "key", Aliases: []string{"keys"}, Short: "The ways to open the repository"}
	c.AddCommand(a.keyListCmd(), a.keyAddCmd(), a.keyRemoveCmd(), a.keyRotateCmd(), a.keyExportCmd(), a.keyConfirmCmd())
	return c
}

// keys runs fn with the service of keys.
func (a *app) keys(c *cobra.Command, fn func(context.Context, tuskvaultv1.KeyServiceClient) error) error {
	return a.call(c, func(ctx context.Context, cl *client) error { return fn(ctx, tuskvaultv1.NewKeyServiceClient(cl.conn)) })
}

func (a *app) keyListCmd() *cobra.Command {
	return &cobra.Command{Use: "ls", Short: "List the ways to open the repository", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		return a.keys(c, func(ctx context.Context, api tuskvaultv1.KeyServiceClient) error {
			r, err := api.ListKeys(ctx, &tuskvaultv1.ListKeysRequest{})
			if err != nil {
				return err
			}
			t := &print.Table{Columns: []print.Column{{Head: "ID"}, {Head: "NAME"}, {Head: "KIND", Flex: true}, {Head: "STATE"}, {Head: "ADDED"}, {Head: "BY", Wide: true}}}
			var names []string
			for _, k := range r.GetKeys() {
				t.Row(print.Short(k.GetId()), k.GetName(), keyKind(k), keyState(k), added(k.GetCreateTime(), a.now()), k.GetCreatedBy())
				names = append(names, k.GetId())
			}
			return a.printer().Print(print.View{Message: r, Names: names, Table: t})
		})
	}}
}

func keyKind(k *tuskvaultv1.RepositoryKey) string {
	if k.GetSheet() {
		return "recovery sheet"
	}
	return k.GetKind()
}

func keyState(k *tuskvaultv1.RepositoryKey) string {
	switch {
	case k.GetInUse():
		return "in use"
	case k.GetSheet() && k.GetConfirmTime() == nil:
		return "not confirmed"
	case k.GetSheet():
		return "confirmed"
	}
	return ""
}

func (a *app) keyAddCmd() *cobra.Command {
	var name, passphrase, keyFile, age string
	c := &cobra.Command{Use: "add [--name NAME] [--passphrase env:NAME|file:PATH | --key-file PATH | --age RECIPIENT]", Short: "Add a way to open the repository",
		Long: `Adds a way to open the repository. Without a flag that says which, a passphrase
is asked for, twice. --key-file makes a new key file, which must not exist yet.
The passphrase never leaves this machine, and neither does the file: the
controller is given what is derived from them. Of an age recipient it needs
nothing secret; whoever has the identity opens the repository with it.`,
		Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
			req := &tuskvaultv1.AddKeyRequest{Id: repo.NewID().String(), Name: name}
			switch {
			case age != "":
				req.Unlocker = &tuskvaultv1.AddKeyRequest_AgeRecipient{AgeRecipient: age}
			case keyFile != "":
				k := seal.NewKeyFile()
				if err := writeNewFile(keyFile, k.Text()); err != nil {
					return err
				}
				req.Unlocker = derived(k.Derive())
			default:
				d, err := a.passphrase(passphrase)
				if err != nil {
					return err
				}
				req.Unlocker = derived(d)
			}
			return a.keys(c, func(ctx context.Context, api tuskvaultv1.KeyServiceClient) error {
				r, err := api.AddKey(ctx, req)
				if kind := errs.KindOf(err); err != nil && keyFile != "" && kind != errs.Unavailable && kind != errs.Timeout {
					err = errors.Join(err, os.Remove(keyFile)) // it opens nothing
				}
				if err != nil {
					return err
				}
				k := r.GetKey()
				return a.printer().Print(print.View{Message: k, Names: []string{k.GetId()}, Text: fmt.Sprintf("key %s added: %s\n", print.Short(k.GetId()), k.GetKind())})
			})
		}}
	f := c.Flags()
	f.StringVar(&name, "name", "", "name of the key, for people")
	f.StringVar(&passphrase, "passphrase", "", "where the passphrase is: env:NAME or file:PATH")
	f.StringVar(&keyFile, "key-file", "", "make a new key file here")
	f.StringVar(&age, "age", "", "age recipient, age1…")
	c.MarkFlagsMutuallyExclusive("passphrase", "key-file", "age")
	return c
}

// passphrase reads a new passphrase by reference, or asks for it.
func (a *app) passphrase(reference string) (*seal.Derived, error) {
	var text string
	if reference == "" {
		var err error
		if text, err = a.askSecret("new passphrase of the repository", true); err != nil {
			return nil, err
		}
	} else {
		s, err := config.ParseSecret(reference)
		if err != nil {
			return nil, exit.WrongUsage(err)
		}
		if text, err = s.Value(); err != nil {
			return nil, err
		}
	}
	if n := len([]rune(text)); n < minPassphrase {
		return nil, fmt.Errorf("passphrase: %d characters, at least %d are wanted: %w", n, minPassphrase, errs.Invalid)
	}
	p, err := seal.NewPassphrase(text)
	if err != nil {
		return nil, err
	}
	return p.Derive()
}

func derived(d *seal.Derived) *tuskvaultv1.AddKeyRequest_Derived {
	kind, kdf, salt, root := d.Parts()
	return &tuskvaultv1.AddKeyRequest_Derived{Derived: &tuskvaultv1.DerivedSecret{Kind: uint32(kind), Time: kdf.Time, MemoryKib: kdf.MemoryKiB, Threads: kdf.Threads,
		Salt: salt[:], Root: root[:]}}
}

// writeNewFile writes a secret to a file for this user alone, and refuses one
// that exists.
func writeNewFile(path string, secret []byte) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("write %s: %w", path, errs.Exists)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.WriteFile(path, secret)
}

func (a *app) keyRemoveCmd() *cobra.Command {
	var yes bool
	c := &cobra.Command{Use: "rm KEY", Short: "Remove a way to open the repository",
		Long: `Removes a way to open the repository. Whoever kept a copy of the store from before
and has the secret can still open that copy.`,
		Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error {
			return a.keys(c, func(ctx context.Context, api tuskvaultv1.KeyServiceClient) error {
				if err := a.confirm(yes, "remove key "+args[0]); err != nil {
					return err
				}
				r, err := api.RemoveKey(ctx, &tuskvaultv1.RemoveKeyRequest{Key: args[0]})
				if err != nil {
					return hintNotFound(err, `run "tuskctl repo key ls"`)
				}
				return a.printer().Print(print.View{Message: r, Names: []string{r.GetId()}, Text: "key " + print.Short(r.GetId()) + " removed\n"})
			})
		}}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

func (a *app) keyRotateCmd() *cobra.Command {
	var yes, seals bool
	c := &cobra.Command{Use: "rotate [--seal-keys]", Short: "Replace the master key and the seal keys",
		Long: `Replaces the master key, and gives every domain a new seal key: what agents were
given before opens nothing that is stored from now on. Packs are not written
anew. The controller goes on without a restart.

The key that the controller uses and those of age recipients go on by
themselves. Passphrases, key files and recovery sheets that others have stop
working, since only their owners can wrap the new key: they are listed first, and
each must be added again.

Whoever has an old key and a copy of the store from before can still open that
copy, and the roots of the domains in it, which do not change: to make stored data
unreadable, erase it (tuskctl instance erase).

With --seal-keys only the seal keys are new, and every key goes on.`,
		Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
			return a.keys(c, func(ctx context.Context, api tuskvaultv1.KeyServiceClient) error {
				if seals {
					r, err := api.RotateSealKeys(ctx, &tuskvaultv1.RotateSealKeysRequest{})
					if err != nil {
						return err
					}
					return a.printer().Print(print.View{Message: r, Text: fmt.Sprintf("%d domains have a new seal key\n", r.GetDomains())})
				}
				return a.rotateMaster(ctx, api, yes)
			})
		}}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.Flags().BoolVar(&seals, "seal-keys", false, "only give every domain a new seal key")
	return c
}

// rotateMaster says what would be lost, asks, and replaces the master key.
func (a *app) rotateMaster(ctx context.Context, api tuskvaultv1.KeyServiceClient, yes bool) error {
	plan, err := api.RotateMasterKey(ctx, &tuskvaultv1.RotateMasterKeyRequest{Plan: true})
	if err != nil {
		return err
	}
	_, _ = fmt.Fprint(a.Err, lostText(plan)) // people's words
	if err := a.confirm(yes, "replace the master key"); err != nil {
		return err
	}
	req := &tuskvaultv1.RotateMasterKeyRequest{}
	for _, k := range plan.GetLost() {
		req.LoseIds = append(req.LoseIds, k.GetId())
	}
	r, err := api.RotateMasterKey(ctx, req)
	if errs.KindOf(err) == errs.Conflict {
		return exit.Hint(err, "run the same again: it names the keys as they are now")
	}
	if err != nil {
		return err
	}
	seals, err := api.RotateSealKeys(ctx, &tuskvaultv1.RotateSealKeysRequest{})
	if err != nil {
		return exit.Hint(fmt.Errorf("master key %d is in force, the seal keys are still the old ones: %w", r.GetMaster(), err), "run: tuskctl repo key rotate --seal-keys")
	}
	text := fmt.Sprintf("master key %d is in force, %d keys open it, %d domains have a new seal key\n", r.GetMaster(), len(r.GetKept()), seals.GetDomains())
	if n := r.GetRemaining(); n > 0 {
		text += fmt.Sprintf("%d objects sealed under older keys stay until the store, or a paused deletion, lets them go\n", n)
	}
	return a.printer().Print(print.View{Message: r, Text: text})
}

// lostText says which keys stop working and how to add them again.
func lostText(r *tuskvaultv1.RotateMasterKeyResponse) string {
	if len(r.GetLost()) == 0 {
		return "every key goes on\n"
	}
	var b strings.Builder
	b.WriteString("these keys stop working, and must be added again by whoever has the secret:\n")
	for _, k := range r.GetLost() {
		again := "tuskctl repo key add --name " + k.GetName()
		switch {
		case k.GetSheet():
			again = "tuskctl repo key export, and confirm the new sheet; destroy the old one"
		case k.GetKind() == seal.WrapKeyFile.String():
			again = "tuskctl repo key add --key-file NEW-PATH"
		case k.GetKind() == seal.WrapAge.String():
			again = "tuskctl repo key add --age RECIPIENT"
		}
		fmt.Fprintf(&b, "  %s  %-20s  %s\n    again: %s\n", print.Short(k.GetId()), k.GetName(), keyKind(k), again)
	}
	return b.String()
}

func (a *app) keyConfirmCmd() *cobra.Command {
	return &cobra.Command{Use: "confirm [WORD]", Short: "Say that a recovery sheet exists, by the word on it", Args: cobra.MaximumNArgs(1), RunE: func(c *cobra.Command, args []string) error {
		var word string
		if len(args) == 1 {
			word = args[0]
		} else {
			var err error
			if word, err = a.askSecret("confirmation word of the recovery sheet", false); err != nil {
				return err
			}
		}
		return a.keys(c, func(ctx context.Context, api tuskvaultv1.KeyServiceClient) error {
			r, err := api.ConfirmKey(ctx, &tuskvaultv1.ConfirmKeyRequest{Word: strings.TrimSpace(word)})
			if err != nil {
				return hintNotFound(err, `the word is in the last line of the sheet; a sheet whose key was removed is worth nothing: run "tuskctl repo key export"`)
			}
			k := r.GetKey()
			return a.printer().Print(print.View{Message: r, Names: []string{k.GetId()}, Text: "recovery sheet of key " + print.Short(k.GetId()) + " confirmed\n"})
		})
	}}
}

// added says how long ago a key was added; nobody knows of the first one.
func added(t *timestamppb.Timestamp, now time.Time) string {
	if t == nil {
		return "unknown"
	}
	return print.Ago(t, now)
}
