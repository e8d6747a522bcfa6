package repotest

import (
	"encoding/hex"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// What a controller knows, as payloads of the catalog log. The messages are the
// controller's (catalog/v1); they are written by their field numbers, which never
// change, because a storage package knows no controller.

// recordSchema is the schema version of the records: later programs migrate them.
const recordSchema = 4

// record is one record of the catalog as a change puts it.
type record struct {
	bucket string
	key    []byte
	value  []byte
}

func bytesField(b []byte, n protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
}

func numberField(b []byte, n protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
}

// payload is a LogRecord with one batch, or with none when nothing changes.
func payload(sequence uint64, records ...record) []byte {
	out := numberField(nil, 1, recordSchema)
	if len(records) == 0 {
		return out
	}
	batch := numberField(nil, 1, sequence)
	for _, r := range records {
		change := bytesField(bytesField(bytesField(nil, 1, []byte(r.bucket)), 2, r.key), 3, r.value)
		batch = bytesField(batch, 3, change)
	}
	return bytesField(out, 2, batch)
}

// seconds is a Timestamp.
func seconds(t time.Time) []byte { return numberField(nil, 1, uint64(t.Unix())) }

// agentRecord is an active agent without certificates.
func agentRecord(id repo.AgentID, name string, at time.Time) record {
	v := bytesField(bytesField(nil, 1, id[:]), 2, []byte(name))
	return record{"agents", id[:], bytesField(numberField(v, 3, 1), 6, seconds(at))}
}

// instanceRecord is an instance of an agent.
func instanceRecord(id repo.InstanceID, agent repo.AgentID, agentName, name string, domain seal.DomainID, at time.Time) record {
	v := bytesField(bytesField(bytesField(nil, 1, id[:]), 2, agent[:]), 3, []byte(agentName))
	v = bytesField(bytesField(bytesField(v, 4, []byte(name)), 6, domain[:]), 7, domain[:])
	return record{"instances", id[:], bytesField(numberField(v, 8, 1), 10, seconds(at))}
}

// quarantined is the key of damaged bytes whose hash is given that were under key.
func quarantined(hash [32]byte, key string) string {
	return repo.QuarantinePrefix + hex.EncodeToString(hash[:]) + "/" + key
}
