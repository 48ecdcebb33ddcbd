"""A monitor in, the same as other libraries' training loops call it out; each file needs its library."""
