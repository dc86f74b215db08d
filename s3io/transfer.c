#include "s3io/object.h"
