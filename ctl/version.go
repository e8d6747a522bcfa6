package ctl

import (
	"github.com/spf13/cobra"

	"github.com/tuskvault/tuskvault/ctl/internal/print"
	"github.com/tuskvault/tuskvault/internal/version"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func (a *app) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version of this program",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			b := version.Get()
			return a.printer().Print(print.View{
				Message: &tuskvaultv1.BuildInfo{Version: b.Version, Revision: b.Revision, Capability: b.Capability, Platform: b.Platform},
				Names:   []string{b.Version},
				Text:    "tuskctl " + b.String() + "\n",
			})
		},
	}
}
