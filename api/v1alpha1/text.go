package v1alpha1

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// unitStep is the factor between two units.
	unitStep = 1024
	units    = "KMGTPE"

	// MaxNote bounds the note of an event, in bytes. An API server takes 1024, and refuses what is longer.
	MaxNote = 1024
	// more is at the end of what was cut.
	more = " …"
)

// BytesText is n for people: 512, 4Ki, 1.5Gi, 10Gi. It is rounded down to a tenth of the unit, so it is for columns and
// messages, not for reading back. A negative n is 0.
func BytesText(n int64) string {
	if n < unitStep {
		return strconv.FormatInt(max(n, 0), 10)
	}
	unit, name := int64(unitStep), 0
	for n/unit >= unitStep {
		unit *= unitStep
		name++
	}
	// First to 1024ths of the unit, so that ten times that cannot overflow.
	tenths := n % unit / (unit / unitStep) * 10 / unitStep
	text := strconv.FormatInt(n/unit, 10) + "." + strconv.FormatInt(tenths, 10)
	return strings.TrimSuffix(text, ".0") + units[name:name+1] + "i"
}

// Brief is the text, cut between two runes if it has more than most bytes. Most must be 4 at least.
func Brief(text string, most int) string {
	if len(text) <= most {
		return text
	}
	end := most - len(more)
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + more
}
