package nfstest

// CheckNames are all checks, as group/check, in the order they run.
func CheckNames() (names []string) {
	for _, g := range groups {
		for _, c := range g.checks {
			names = append(names, g.name+"/"+c.name)
		}
	}
	return names
}
