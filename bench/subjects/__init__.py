"""What is measured. Each module is a program: `bench.subject.serve` gives it a task and takes its measurements."""
