// Package main declares a function that is the runtime's: without an assembly
// file the compiler would want its body here.
