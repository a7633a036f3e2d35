//! Every decision, pure and total: no clock, no client, no runtime. The same input gives the same answer in the
//! operator, in a command line and in a test.
