// Package attrcache says for how long attributes that were read stay true, where all
// changes to a tree are made by one process.
package attrcache
