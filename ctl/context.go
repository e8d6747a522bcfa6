package ctl

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tuskvault/tuskvault/ctl/internal/print"
	"github.com/tuskvault/tuskvault/internal/access"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/exit"
)

func (a *app) contextCmd() *cobra.Command {
	c := &cobra.Command{Use: "context", Short: "Choose which controller to talk to"}
	var from, rename string
	add := &cobra.Command{
		Use:   "add NAME --from FILE [--address HOST:PORT]",
		Short: "Take a context over from a file such as the controller's admin-context.yaml",
		Args:  cobra.ExactArgs(1),
		RunE:  func(c *cobra.Command, args []string) error { return a.contextAdd(c.Context(), args[0], from, rename) },
	}
	add.Flags().StringVar(&from, "from", "", "file to take the context from")
	add.Flags().StringVar(&rename, "address", "", "address to use instead of the file's")
	_ = add.MarkFlagRequired("from")
	c.AddCommand(
		&cobra.Command{Use: "ls", Short: "List contexts", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error { return a.contextList() }},
		&cobra.Command{Use: "use NAME", Short: "Make a context the current one", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeContexts,
			RunE: func(c *cobra.Command, args []string) error {
				return a.changeContexts(c.Context(), func(f *access.File) error {
					if _, err := f.Get(args[0]); err != nil {
						return exit.Hint(err, `run "tuskctl context ls"`)
					}
					f.Current = args[0]
					return nil
				})
			}},
		add,
		&cobra.Command{Use: "rm NAME", Short: "Forget a context", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeContexts,
			RunE: func(c *cobra.Command, args []string) error {
				return a.changeContexts(c.Context(), func(f *access.File) error {
					return exit.Hint(f.Remove(args[0]), `run "tuskctl context ls"`)
				})
			}},
	)
	return c
}

// contextList prints tables, names, or plain objects: contexts are no message of the API.
func (a *app) contextList() error {
	path, err := a.contextsPath()
	if err != nil {
		return err
	}
	f, err := access.Load(path)
	if errors.Is(err, errs.NotFound) {
		f, err = &access.File{}, nil
		a.say("no contexts in %s", path)
		for _, h := range noContextHints {
			a.say("hint: %s", h)
		}
	}
	if err != nil {
		return err
	}
	p := a.printer()
	type row struct {
		Name    string `json:"name"`
		Address string `json:"address"`
		Current bool   `json:"current"`
	}
	rows := []row{}
	t := &print.Table{Columns: []print.Column{{Head: "CURRENT"}, {Head: "NAME"}, {Head: "ADDRESS", Flex: true}}}
	var names []string
	for _, c := range f.Contexts {
		rows = append(rows, row{c.Name, c.Address, c.Name == f.Current})
		mark := ""
		if c.Name == f.Current {
			mark = "*"
		}
		t.Row(mark, c.Name, c.Address)
		names = append(names, c.Name)
	}
	return p.Print(print.View{Object: map[string]any{"contexts": rows}, Table: t, Names: names})
}

// lockWait bounds the wait for another tuskctl that changes the same file: one
// that renews a certificate holds it for renewTimeout at most.
const lockWait = 2 * renewTimeout

func (a *app) changeContexts(ctx context.Context, change func(*access.File) error) error {
	path, err := a.contextsPath()
	if err != nil {
		return err
	}
	return access.Change(ctx, path, lockWait, func(f *access.File) (bool, error) { return true, change(f) })
}

func (a *app) contextAdd(ctx context.Context, name, from, address string) error {
	src, err := access.Load(from)
	if err != nil {
		return err
	}
	c, err := src.Get("")
	if err != nil {
		return fmt.Errorf("take context from %s: %w", from, err)
	}
	added := *c
	added.Name = name
	if address != "" {
		added.Address = address
	}
	return a.changeContexts(ctx, func(f *access.File) error {
		return exit.Hint(f.Add(added), fmt.Sprintf("run %q first", "tuskctl context rm "+name))
	})
}

func (a *app) completeContexts(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	path, err := a.contextsPath()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	f, err := access.Load(path)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for _, c := range f.Contexts {
		if strings.HasPrefix(c.Name, prefix) {
			out = append(out, c.Name)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
