// Package formatdoc holds a reader of repositories that was written from
// docs/FORMAT.md alone, as a test of that text: reader_test.go imports the
// standard library and a zstd decoder, and nothing of this module. What it reads
// is compared with what the product reads.
package formatdoc
