package ingest_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func TestADownloadThatIsCutGivesItsMemoryBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		a := w.agent()
		chunks := make([]chunkFrame, 12)
		for i := range chunks { // does not compress: an answer is larger than the connection's buffers
			noise := make([]byte, 700<<10)
			for j, x := 0, uint32(i+1); j < len(noise); j++ {
				x ^= x << 13
				x ^= x >> 17
				x ^= x << 5
				noise[j] = byte(x)
			}
			chunks[i] = a.chunk(seal.KindRowsText, noise)
		}
		job := repo.NewID()
		_, _, err := a.backup(job, 1, chunks)
		must(t, err)
		d, err := a.download(a.leaseRestore(job, a.instance), false)
		must(t, err)
		must(t, d.rpc.Send(&tuskvaultv1.DownloadRequest{Message: &tuskvaultv1.DownloadRequest_Range{
			Range: &tuskvaultv1.DownloadRange{Sequence: 1, Count: uint32(len(chunks))}}}))
		must(t, d.rpc.Send(&tuskvaultv1.DownloadRequest{Message: &tuskvaultv1.DownloadRequest_Credit{
			Credit: &tuskvaultv1.DownloadCredit{Bytes: 1 << 30}}}))
		synctest.Wait() // nobody reads: segments wait
		if w.server.ReadAheadIsFree() {
			t.Fatal("nothing was read ahead: this test shows nothing")
		}
		d.cancel()
		time.Sleep(time.Minute)
		if !w.server.ReadAheadIsFree() {
			t.Fatal("segments of a download that was cut still hold memory")
		}
		w.stop()
	})
}
