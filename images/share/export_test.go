package share

// InPasses makes a run keep no more than so many files in memory.
func InPasses(o Options, files int64) Options {
	o.inMemory = files
	return o
}
