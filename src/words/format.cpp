#include "sentinel/words/format.hpp"
