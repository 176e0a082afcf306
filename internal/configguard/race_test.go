//go:build race

package configguard

const raceEnabled = true
