package ctl

import (
	"bufio"
	"fmt"
	"strings"

	"golang.org/x/term"

	"github.com/tuskvault/tuskvault/ctl/internal/print"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/exit"
)

// printer fits answers to standard output.
func (a *app) printer() *print.Printer {
	p := &print.Printer{Out: a.Out, Format: print.Format(a.output)}
	if w, ok := width(a.Out); ok {
		p.Width = w
		p.Color = !a.noColor && a.Env("NO_COLOR") == "" && a.Env("TERM") != "dumb"
	}
	return p
}

// width gives the width of a terminal; false when w is none.
func width(w any) (int, bool) {
	f := fileOf(w)
	if f == nil || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	n, _, err := term.GetSize(int(f.Fd()))
	if err != nil || n <= 0 {
		return 80, true
	}
	return n, true
}

// drawing gives the size of a terminal that has room for bars; zeros when w is none.
func drawing(w any) (width, height int) {
	f := fileOf(w)
	if f == nil || !term.IsTerminal(int(f.Fd())) {
		return 0, 0
	}
	width, height, err := term.GetSize(int(f.Fd()))
	if err != nil || height <= 2 {
		return 0, 0
	}
	return width, height
}

// confirm asks before something is destroyed. Off a terminal only --yes counts.
func (a *app) confirm(yes bool, what string) error {
	if yes {
		return nil
	}
	f := fileOf(a.In)
	if f == nil || !term.IsTerminal(int(f.Fd())) {
		return exit.Hint(exit.WrongUsage(fmt.Errorf("%s: %w", what, errNotTerminal)), "say --yes")
	}
	_, _ = fmt.Fprintf(a.Err, "%s? Type yes: ", what)
	line, err := bufio.NewReader(f).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "yes" {
		return fmt.Errorf("%s: not confirmed: %w", what, errs.Canceled)
	}
	return nil
}

// askSecret asks for one line on a terminal without showing it, twice if it is a
// new one. Off a terminal it is an error: secrets come by reference there.
func (a *app) askSecret(what string, twice bool) (string, error) {
	f := fileOf(a.In)
	if f == nil || !term.IsTerminal(int(f.Fd())) {
		return "", exit.WrongUsage(fmt.Errorf("%s: none is named, and standard input is no terminal", what))
	}
	ask := func(prompt string) (string, error) {
		_, _ = fmt.Fprintf(a.Err, "%s: ", prompt)
		b, err := term.ReadPassword(int(f.Fd()))
		_, _ = fmt.Fprintln(a.Err)
		return string(b), err
	}
	first, err := ask(what)
	if err != nil || !twice {
		return first, err
	}
	again, err := ask("the same again")
	if err == nil && again != first {
		err = fmt.Errorf("%s: the two differ: %w", what, errs.Invalid)
	}
	return first, err
}
