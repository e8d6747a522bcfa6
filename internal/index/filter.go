package index

import (
	"encoding/binary"
	"math/bits"
)

// filter is a blocked Bloom filter over prefixes: each sets seven bits of one
// block of 512, so that a question costs one cache line. Prefixes are keyed
// hashes already and are not hashed again: the first eight bytes pick the
// block, seven times nine bits of the others the bits. A host that makes up
// names can only make its own domain's filter say "perhaps" more often.
type filter []byte

// bitsPerRecord gives about 1.3 % of false "perhaps".
const bitsPerRecord = 10

func newFilter(n uint64) filter { return make(filter, uint64(newFilterBlocks(n))*blockSize) }

// newFilterBlocks is the number of blocks of the filter of n records.
func newFilterBlocks(n uint64) uint32 {
	return uint32(max(1, (n*bitsPerRecord+blockSize*8-1)/(blockSize*8)))
}

func (f filter) blocks() uint32 { return uint32(len(f) / blockSize) }

// block gives the block of a prefix. It rises with the prefix, so that writing
// a sorted file fills the filter from front to back.
func (f filter) block(prefix []byte) []byte {
	i, _ := bits.Mul64(binary.BigEndian.Uint64(prefix), uint64(len(f)/blockSize))
	return f[i*blockSize : (i+1)*blockSize]
}

func (f filter) add(prefix []byte) {
	block, x := f.block(prefix), binary.BigEndian.Uint64(prefix[8:])
	for range 7 {
		block[x>>3&63] |= 1 << (x & 7)
		x >>= 9
	}
}

func (f filter) perhaps(prefix []byte) bool {
	block, x := f.block(prefix), binary.BigEndian.Uint64(prefix[8:])
	for range 7 {
		if block[x>>3&63]&(1<<(x&7)) == 0 {
			return false
		}
		x >>= 9
	}
	return true
}
