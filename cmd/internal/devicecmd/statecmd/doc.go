// Package statecmd has the verbs of "rubus device" that keep a board's writes, bring them back, hand them over and take them away.
package statecmd
