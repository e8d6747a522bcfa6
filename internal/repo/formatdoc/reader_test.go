package formatdoc

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// The sections of docs/FORMAT.md are named where they are followed.

// formatNumber is in repository.json, frames, packs, index files and wraps.
const formatNumber = 0

// opened is a repository in a folder, opened by a key file.
type opened struct {
	folder string
	id     []byte
	// The master key in force: its number, and the succession that put it there.
	number     uint64
	master     []byte
	succession []older
}

func (o *opened) read(key string) ([]byte, error) {
	return os.ReadFile(filepath.Join(o.folder, filepath.FromSlash(key)))
}

// keys lists the keys below a prefix that ends in "/".
func (o *opened) keys(prefix string) (keys []string, err error) {
	root := filepath.Join(o.folder, filepath.FromSlash(prefix))
	err = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) && path == root {
			return nil
		}
		if err == nil && !d.IsDir() && !strings.HasPrefix(d.Name(), ".") {
			rel, _ := filepath.Rel(o.folder, path)
			keys = append(keys, filepath.ToSlash(rel))
		}
		return err
	})
	slices.Sort(keys)
	return keys, err
}

// Keys: the derivation.
func derive(parent []byte, info ...[]byte) []byte {
	m := hmac.New(sha256.New, parent)
	for _, part := range info {
		m.Write(part)
	}
	m.Write([]byte{1})
	return m.Sum(nil)
}

func gcm(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	a, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return a
}

// unseal opens nonce 12 ‖ ciphertext ‖ tag 16.
func unseal(key, sealed, aad []byte) ([]byte, error) {
	if len(sealed) < 28 {
		return nil, fmt.Errorf("%d bytes are too few for what is sealed", len(sealed))
	}
	return gcm(key).Open(nil, sealed[:12], sealed[12:], aad)
}

// Sealed blob.
func unsealBlob(parent []byte, purpose string, sealed, aad []byte) ([]byte, error) {
	return unseal(derive(parent, []byte("blob"), []byte(purpose)), sealed, aad)
}

func u32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
func u64(b []byte) uint64 { return binary.BigEndian.Uint64(b) }

// open follows repository.json and Unlockers.
func open(folder, keyFile string) (*opened, error) {
	o := &opened{folder: folder}
	text, err := o.read("repository.json")
	if err != nil {
		return nil, err
	}
	var description struct {
		Format int    `json:"format"`
		ID     string `json:"id"`
	}
	if err := json.Unmarshal(text, &description); err != nil {
		return nil, err
	}
	if description.Format != formatNumber {
		return nil, fmt.Errorf("format %d", description.Format)
	}
	if o.id, err = hex.DecodeString(description.ID); err != nil {
		return nil, err
	}
	word, rest, _ := strings.Cut(strings.TrimSpace(keyFile), " ")
	root, err := base64.StdEncoding.DecodeString(rest)
	if err != nil || word != "TUSKVAULT-KEY-1" || len(root) != 32 {
		return nil, fmt.Errorf("not a key file: %w", err)
	}
	keys, err := o.keys("keys/")
	if err != nil {
		return nil, err
	}
	return o, o.findMaster(root, sha256.Sum256(text), keys)
}

// domain is an open domain.
type domain struct {
	*opened
	id            []byte
	data, control []byte
	sealEpoch     uint32
	largest       int // chunk
	places        map[string][]place
}

type place struct {
	pack           string
	offset, length int64
}

// domain follows Domains.
func (o *opened) domain(id []byte) (*domain, error) {
	d := &domain{opened: o, id: id}
	keys, err := o.keys("domains/" + hex.EncodeToString(id) + "/")
	if err != nil || len(keys) == 0 {
		return nil, fmt.Errorf("no domain %x: %w", id, err)
	}
	var key string
	var record struct {
		Clear         json.RawMessage `json:"clear"`
		Data, Control []byte
	}
	var clear struct {
		Master    uint64 `json:"master"`
		SealEpoch uint32 `json:"seal_epoch"`
		Cut       struct{ Max int }
	}
	for n := len(keys) - 1; n >= 0 && (key == "" || max(clear.Master, 1) != o.number); n-- { // the newest that counts
		key = keys[n]
		text, err := o.read(key)
		if err != nil {
			return nil, err
		}
		clear.Master = 0
		if err := errors.Join(json.Unmarshal(text, &record), json.Unmarshal(record.Clear, &clear)); err != nil {
			return nil, err
		}
	}
	if max(clear.Master, 1) != o.number {
		return nil, fmt.Errorf("domain %x is not sealed under master key %d", id, o.number)
	}
	d.sealEpoch, d.largest = clear.SealEpoch, clear.Cut.Max
	aad := slices.Concat(o.id, []byte(key), record.Clear)
	wrap := derive(o.master, []byte("wrap-domain"))
	if d.data, err = unsealBlob(wrap, "domain-data", record.Data, aad); err != nil {
		return nil, err
	}
	d.control, err = unsealBlob(wrap, "domain-control", record.Control, aad)
	return d, err
}

func (d *domain) refsKey() []byte { return derive(d.data, []byte("refs")) }
func (d *domain) sealKey(epoch uint32) []byte {
	return derive(d.data, []byte("seal"), binary.BigEndian.AppendUint32(nil, epoch))
}

// find gives the places of a chunk by the index, and by the packs where that has
// none: Index, Pack.
func (d *domain) find(name []byte) ([]place, error) {
	if d.places == nil {
		d.places = map[string][]place{}
		if err := errors.Join(d.readIndex(), d.readPacks()); err != nil {
			return nil, err
		}
	}
	return append(slices.Clone(d.places[string(name[:16])]), d.places[string(name)]...), nil
}

// readIndex takes every index file's entries in, under half of the name.
func (d *domain) readIndex() error {
	keys, err := d.keys("index/" + hex.EncodeToString(d.id) + "/")
	if err != nil {
		return err
	}
	for _, key := range keys {
		b, err := d.read(key)
		if err != nil {
			return err
		}
		end := len(b) - 32
		sum := sha256.Sum256(b[:end])
		if !bytes.Equal(sum[:], b[end:]) || !strings.HasSuffix(key, hex.EncodeToString(sum[:])) || string(b[:4]) != "TVIX" || b[4] != formatNumber || !bytes.Equal(b[8:24], d.id) {
			return fmt.Errorf("%s does not verify", key)
		}
		entries, packs, blocks := int(u64(b[24:])), int(u32(b[32:])), int(u32(b[36:]))
		first := 64 + 32*packs
		filter := (first + 28*entries + 63) / 64 * 64
		if filter+64*blocks != end {
			return fmt.Errorf("%s: its numbers do not add up", key)
		}
		for i := range entries {
			e := b[first+28*i:][:28]
			p := b[64+32*int(u32(e[16:])):][:32]
			d.places[string(e[:16])] = append(d.places[string(e[:16])], place{hex.EncodeToString(p), int64(u32(e[20:])), int64(u32(e[24:]))})
			x, _ := bits.Mul64(u64(e), uint64(blocks))
			block := b[filter+64*int(x):][:64]
			for j := range 7 {
				bit := u64(e[8:]) >> (9 * j) % 512
				if block[bit/8]>>(bit%8)&1 == 0 {
					return fmt.Errorf("%s: entry %d is not in the filter", key, i)
				}
			}
		}
	}
	return nil
}

// readPacks takes every pack's directory in, under the whole name.
func (d *domain) readPacks() error {
	keys, err := d.keys("packs/" + hex.EncodeToString(d.id) + "/")
	if err != nil {
		return err
	}
	for _, key := range keys {
		b, err := d.read(key)
		if err != nil {
			return err
		}
		header, trailer := b[:24], b[len(b)-128:]
		at, length, count := int(u64(trailer)), int(u64(trailer[8:])), int(u32(trailer[16:]))
		if string(header[:4]) != "TVPK" || header[4] != formatNumber || string(trailer[120:]) != "TVPKTRLR" || !bytes.Equal(header[8:], d.id) || length != 68*count || at+length+128 != len(b) {
			return fmt.Errorf("%s: its numbers do not add up", key)
		}
		directory := b[at : at+length]
		id := sha256.Sum256(slices.Concat(header, directory, trailer))
		name := hex.EncodeToString(id[:])
		if key != "packs/"+hex.EncodeToString(d.id)+"/"+name[:2]+"/"+name {
			return fmt.Errorf("%s holds pack %s", key, name)
		}
		mac := hmac.New(sha256.New, derive(d.control, []byte("pack")))
		mac.Write(slices.Concat(header, directory, trailer[:88]))
		if !hmac.Equal(mac.Sum(nil), trailer[88:120]) {
			return fmt.Errorf("%s: no controller of the domain wrote it", key)
		}
		offset := int64(24)
		for e := directory; len(e) > 0; e = e[68:] {
			n := int64(u32(e[64:]))
			if sum := sha256.Sum256(b[offset : offset+n]); !bytes.Equal(sum[:], e[32:64]) {
				return fmt.Errorf("%s: the frame at %d is damaged", key, offset)
			}
			d.places[string(e[:32])] = append(d.places[string(e[:32])], place{name, offset, n})
			offset += n
		}
		if offset != int64(at) {
			return fmt.Errorf("%s: its frames do not end where the directory begins", key)
		}
	}
	return nil
}

// chunk follows Frame and Names: it opens a chunk from the first place that has it.
func (d *domain) chunk(kind byte, name []byte) ([]byte, error) {
	places, err := d.find(name)
	if err != nil {
		return nil, err
	}
	for _, p := range places {
		b, err := d.read("packs/" + hex.EncodeToString(d.id) + "/" + p.pack[:2] + "/" + p.pack)
		if err != nil {
			return nil, err
		}
		if plain, err := d.open(b[p.offset:p.offset+p.length], kind, name); err == nil {
			return plain, nil
		}
	}
	return nil, fmt.Errorf("chunk %x is in none of %d places", name, len(places))
}

func (d *domain) open(frame []byte, kind byte, name []byte) ([]byte, error) {
	if string(frame[:4]) != "TVFR" || frame[4] != formatNumber || frame[5] != kind || frame[7] != 0 || int(u32(frame[12:])) != len(frame)-48 || !bytes.Equal(frame[16:48], name) {
		return nil, errors.New("another frame")
	}
	parent := d.sealKey(u32(frame[8:]))
	if kind == 6 {
		parent = d.refsKey()
	}
	sealed, err := unseal(derive(parent, []byte("frame"), []byte{kind}, name), frame[48:], slices.Concat(d.id, frame[:48]))
	if err != nil {
		return nil, err
	}
	plain := sealed[4:]
	if frame[6] == 1 {
		decoder, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(16<<20))
		if err != nil {
			return nil, err
		}
		defer decoder.Close()
		if plain, err = decoder.DecodeAll(plain, nil); err != nil {
			return nil, err
		}
	}
	plain = plain[:u32(sealed)]
	m := hmac.New(sha256.New, derive(d.data, []byte("name")))
	m.Write(append([]byte{kind}, plain...))
	if !bytes.Equal(m.Sum(nil), name) {
		return nil, errors.New("its name is another")
	}
	return plain, nil
}

// snapshot is an open snapshot.
type snapshot struct {
	domain  *domain
	job     []byte
	lists   [][]byte // names
	content content
}

// content is the part of the content part that is looked at.
type content struct {
	Version int
	Kind    string
	Logical struct {
		Databases []struct {
			Name    string
			Archive struct{ Stream stream }
			Tables  []struct {
				Schema, Name string
				Columns      []string
				Rows         int64
				Runs         []struct {
					Binary bool
					Rows   int64
					Stream stream
				}
			}
			LargeObjects *struct{ Data, Meta stream } `json:"large_objects"`
		}
	}
}

type stream struct {
	Spans []struct{ L, F, N uint32 }
	Bytes int64
}

// snapshots follows Snapshot object, Commit, References and Content.
func (o *opened) snapshots() (all []*snapshot, err error) {
	keys, err := o.keys("snapshots/")
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		b, err := o.read(key)
		if err != nil {
			return nil, err
		}
		if string(b[:4]) != "TVS1" || b[4] != 1 || key != "snapshots/"+hex.EncodeToString(b[24:40])+"/"+hex.EncodeToString(b[40:56]) {
			return nil, fmt.Errorf("%s is not a snapshot, or belongs elsewhere", key)
		}
		if b[5] == 2 {
			continue // an abort marker
		}
		s, err := o.snapshot(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		all = append(all, s)
	}
	return all, nil
}

func (o *opened) snapshot(b []byte) (*snapshot, error) {
	d, err := o.domain(b[8:24])
	if err != nil {
		return nil, err
	}
	s := &snapshot{domain: d, job: b[40:56]}
	middle, end := 96+int(u64(b[80:])), 96+int(u64(b[80:]))+int(u64(b[88:]))
	references, part, commit := b[96:middle], b[middle:end], b[end:]
	refsHash, partHash := sha256.Sum256(references), sha256.Sum256(part)
	mac := hmac.New(sha256.New, derive(d.control, []byte("commit")))
	mac.Write(slices.Concat(b[:96], commit[:148]))
	if len(commit) != 180 || string(commit[:4]) != "TVK1" || !bytes.Equal(commit[4:20], o.id) || !bytes.Equal(commit[84:116], refsHash[:]) ||
		!bytes.Equal(commit[116:148], partHash[:]) || !hmac.Equal(mac.Sum(nil), commit[148:]) {
		return nil, errors.New("its commit record does not verify")
	}
	aad := slices.Concat(b[8:24], s.job)
	refs, err := unsealBlob(d.refsKey(), "references", references, aad)
	if err != nil {
		return nil, err
	}
	if string(refs[:4]) != "TVR1" || u32(refs[4:]) != 1 {
		return nil, errors.New("not a references part")
	}
	for i := range u32(refs[8:]) {
		s.lists = append(s.lists, refs[12+44*i:][:32])
	}
	packed, err := unsealBlob(d.sealKey(u32(b[72:])), "content", part, aad)
	if err != nil {
		return nil, err
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(256<<20))
	if err != nil {
		return nil, err
	}
	defer decoder.Close()
	text, err := decoder.DecodeAll(packed, nil)
	if err != nil {
		return nil, err
	}
	return s, json.Unmarshal(text, &s.content)
}

// bytesOf follows Chunk list and the streams of Content.
func (s *snapshot) bytesOf(st stream) ([]byte, error) {
	var out []byte
	for _, span := range st.Spans {
		list, err := s.domain.chunk(6, s.lists[span.L])
		if err != nil {
			return nil, err
		}
		if string(list[:4]) != "TVL1" || len(list) != 8+58*int(u32(list[4:])) {
			return nil, errors.New("not a chunk list")
		}
		for i := span.F; i < span.F+span.N; i++ {
			e := list[8+58*i:][:58]
			plain, err := s.domain.chunk(e[0], e[2:34])
			if err != nil {
				return nil, err
			}
			if len(plain) != int(u32(e[34:])) {
				return nil, fmt.Errorf("a chunk of %d bytes, its list says %d", len(plain), u32(e[34:]))
			}
			out = append(out, plain...)
		}
	}
	if int64(len(out)) != st.Bytes {
		return nil, fmt.Errorf("a stream of %d bytes, not %d", len(out), st.Bytes)
	}
	return out, nil
}
