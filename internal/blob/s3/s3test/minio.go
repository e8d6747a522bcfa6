package s3test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// StartMinIO runs a single MinIO server until the test ends, and gives its
// endpoint. Only long tests do: TUSKVAULT_LONG=1, and `make minio`.
func StartMinIO(t testing.TB) (endpoint string) {
	t.Helper()
	if os.Getenv("TUSKVAULT_LONG") != "1" {
		t.Skip("MinIO runs in long tests only")
	}
	program, err := find("TUSKVAULT_MINIO", "minio")
	if err != nil {
		t.Fatalf("start MinIO: %v", err)
	}
	Credentials(t, AccessKey, SecretKey)
	for range 3 {
		dir := t.TempDir()
		var s *Server
		s, err = launch(dir, func(address string) *exec.Cmd {
			c := exec.Command(program, "server", "--quiet", "--address", address, filepath.Join(dir, "data"))
			c.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH"), "MINIO_ROOT_USER=" + AccessKey, "MINIO_ROOT_PASSWORD=" + SecretKey, "MINIO_CI_CD=1", "MINIO_BROWSER=off", "MINIO_UPDATE=off"}
			return c
		})
		if err == nil {
			t.Cleanup(func() {
				s.stop()
				if t.Failed() {
					t.Logf("MinIO:\n%s", s.log.tail())
				}
			})
			return s.Endpoint
		}
	}
	t.Fatalf("start MinIO: %v", err)
	return ""
}
