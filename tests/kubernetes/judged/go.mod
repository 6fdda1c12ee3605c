module ringbolt.dev/tests/kubernetes/judged

go 1.26.0
