package rules

// WirelessTwice looks for passwords in a file, of each kind, and once more in what is left of it.
func WirelessTwice(b []byte) (again []bool) {
	for _, p := range secretPlaces() {
		if found, f := p.look(b); found && f.without != nil {
			left, _ := p.look(f.without)
			again = append(again, left)
		}
	}
	return again
}
