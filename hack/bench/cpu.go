package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// tick is the unit of /proc/PID/stat: USER_HZ is 100 on all that we run on.
const tick = 10 * time.Millisecond

// cpuOf is the time that a process has used, user and system; 0 if it is not known.
func cpuOf(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	const user, system = 11, 12 // counted behind the name
	if len(fields) <= system {
		return 0
	}
	u, _ := strconv.ParseInt(string(fields[user]), 10, 64)
	s, _ := strconv.ParseInt(string(fields[system]), 10, 64)
	return time.Duration(u+s) * tick
}
