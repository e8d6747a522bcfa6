package repo

import "fmt"

// The bounds of JSON from a store or from an agent. A decoder makes values of
// hundreds of bytes out of "{},", so the bytes alone bound no memory: what the
// text will cost is estimated before it is decoded.
const (
	// maxJSONDepth is twice the depth of the deepest thing we write.
	maxJSONDepth = 32
	// structDepth is the depth down to which an object becomes a Go struct of some
	// size; spans, which are many and small, are deeper.
	structDepth = 9
	// The estimates, in bytes: an object that becomes a struct, a value, and a pair
	// beyond the number that any struct has, which is an entry of a map.
	costStruct, costValue, costMapEntry = 256, 16, 128
	mostFields                          = 40
)

// checkJSON refuses text that is nested too deeply or would take more than about
// budget bytes once decoded. It does not check the syntax: the decoder does.
func checkJSON(text []byte, budget int64) error {
	var pairs [maxJSONDepth + 1]int
	depth, inString, cost := 0, false, int64(0)
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > maxJSONDepth {
				return fmt.Errorf("nested deeper than %d", maxJSONDepth)
			}
			pairs[depth] = 0
			if c == '{' && depth <= structDepth {
				cost += costStruct
			}
		case (c == '}' || c == ']') && depth > 0:
			depth--
		case c == ',':
			cost += costValue
		case c == ':':
			if pairs[depth]++; pairs[depth] > mostFields {
				cost += costMapEntry
			}
		}
		if cost > budget {
			return fmt.Errorf("would take more than %d bytes of memory", budget)
		}
	}
	return nil
}
