package repo

// What the tests of bounds need, with bounds small enough for a quick test.
var (
	CheckJSON = checkJSON
	Inflate   = inflate
)

// DecodeRecordHeader reads the clear header of a log record.
func DecodeRecordHeader(raw []byte) error {
	_, _, err := decodeRecordHeader(raw)
	return err
}
