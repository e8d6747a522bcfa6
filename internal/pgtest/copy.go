package pgtest

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// copyData makes the data directory a copy of one whose server is stopped, of the
// same major version and with the standard superuser.
func (s *Server) copyData(ctx context.Context) error {
	// cp keeps holes and is there wherever a shell is.
	cmd := exec.CommandContext(ctx, "cp", "-a", s.opts.Data, s.Data)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("copy data directory %s: %w: %s", s.opts.Data, err, strings.TrimSpace(string(out)))
	}
	if s.cred == nil {
		return nil
	}
	cmd = exec.CommandContext(ctx, "chown", "-R", fmt.Sprintf("%d:%d", s.cred.Uid, s.cred.Gid), s.Data)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("own data directory %s: %w: %s", s.Data, err, strings.TrimSpace(string(out)))
	}
	return nil
}
