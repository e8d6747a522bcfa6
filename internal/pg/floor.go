package pg

// SecurityFloor gives the lowest minor release of a major that has the mends of
// every hole known when this program was built, in server and client programs;
// false for a major that it knows nothing of.
func SecurityFloor(major int) (Version, bool) {
	v, ok := map[int]Version{13: 130022, 14: 140023, 15: 150018, 16: 160014, 17: 170010, 18: 180004}[major]
	return v, ok
}
