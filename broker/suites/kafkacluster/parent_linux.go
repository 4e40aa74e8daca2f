package kafkacluster

import "syscall"

// dieWithParent lets a node end with the process that started it, however that ends.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
