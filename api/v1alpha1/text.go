package v1alpha1

import (
	"strconv"
	"strings"
)

const (
	// unitStep is the factor between two units.
	unitStep = 1024
	units    = "KMGTPE"
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
