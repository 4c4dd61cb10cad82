"""From a command to a finished run or sweep, in the process that the user started; knows no Ray."""
