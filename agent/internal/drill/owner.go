package drill

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// DefaultUser runs the server when the agent is root and no other is configured.
const DefaultUser = "postgres"

// owner is who runs the server. PostgreSQL refuses root.
type owner struct {
	// other tells that it is not who we are.
	other    bool
	uid, gid uint32
	name     string
}

// findOwner finds out who runs the server: ourselves, or, when we are root, the
// user named, by default postgres.
func findOwner(name string) (owner, error) {
	if os.Geteuid() != 0 {
		own := owner{uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())}
		if name == "" {
			return own, nil
		}
		u, err := user.Lookup(name)
		if err != nil || u.Uid != strconv.Itoa(os.Geteuid()) {
			return own, fmt.Errorf("drill.user %s: this agent is not root and can run PostgreSQL as itself only: %w", name, errs.Denied)
		}
		return own, nil
	}
	named := name != ""
	if !named {
		name = DefaultUser
	}
	u, err := user.Lookup(name)
	if err != nil && !named {
		return owner{}, fmt.Errorf("PostgreSQL refuses to run as root, and there is no user %s; name another as drill.user: %w", name, errs.Unsupported)
	} else if err != nil {
		return owner{}, fmt.Errorf("drill.user %s: there is no such user: %w", name, errs.NotFound)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err1 != nil || err2 != nil || uid == 0 {
		return owner{}, fmt.Errorf("drill.user %s: PostgreSQL refuses to run as root: %w", name, errs.Denied)
	}
	return owner{other: true, uid: uint32(uid), gid: uint32(gid), name: name}, nil
}

// give makes a file belong to the owner.
func (o owner) give(path string) error {
	if !o.other {
		return nil
	}
	if err := os.Lchown(path, int(o.uid), int(o.gid)); err != nil {
		return fmt.Errorf("give %s to user %s: %w", path, o.name, err)
	}
	return nil
}

// ours tells whether nobody else can put anything into a base.
func ours(base string) error {
	info, err := os.Lstat(base)
	if err != nil {
		return fmt.Errorf("drill folder: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return fmt.Errorf("drill folder %s: it is no folder: %w", base, errs.Invalid)
	case ok && int(st.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("drill folder %s: others can write to it; it must belong to the agent's user and be of mode 0711 or less: %w", base, errs.Denied)
	}
	return nil
}

// reaches tells whether the owner can get to a folder: the server must, and each
// folder above has to let it through.
func (o owner) reaches(path string) error {
	if !o.other {
		return nil
	}
	for dir := path; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("drill folder: %w", err)
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		mode := info.Mode().Perm()
		if through := mode&0o001 != 0; ok && !through {
			through = st.Uid == o.uid && mode&0o100 != 0 || st.Gid == o.gid && mode&0o010 != 0
			if !through {
				return fmt.Errorf("drill folder %s: user %s, who runs the server, cannot pass through %s (mode %04o); set drill.dir to another, or run: chmod o+x %s: %w",
					path, o.name, dir, mode, dir, errs.Denied)
			}
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// refusal is why a drill cannot be held here at all.
func refusal(why string) error { return fmt.Errorf("%s: %w", why, errs.Unsupported) }
